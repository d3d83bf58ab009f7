"""Token ids become the text that is judged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from extra_rl.config.sections import ComputeConfig, SamplingConfig
from extra_rl.models.tokenizers import byte_level, word_level
from extra_rl.sampling.open import open_decoder, open_sampler
from extra_rl.sampling.text import response_decoder
from mathjudge import judge
from tests import chat_families as families
from tests.chat_families import tokenizer_with
from tests.conftest import POLICY


def ids_of(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def sentence_pieces() -> Any:
    """Words with a leading space, as in SentencePiece tokenizers."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<s>", "</s>", "<unk>", "▁the", "▁answer", "▁5", ".", "▁"]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    )


def word_pieces() -> Any:
    """Pieces whose spaces are cleaned up after decoding."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    words = ["[UNK]", "[SEP]", "[PAD]", "it", "##s", "5", ".", ",", "do", "n't"]
    tokenizer = Tokenizer(models.WordPiece({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="[SEP]", pad_token="[PAD]", unk_token="[UNK]",
        clean_up_tokenization_spaces=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("make", "ids"),
    [
        (lambda: word_level(["4", "+", "="]), [3, 4, 3, 5, 3]),
        (byte_level, [*" a  né\n\n 🎉 <think>".encode()]),
        (sentence_pieces, [3, 4, 5, 6]),
        (sentence_pieces, [7, 3, 7, 6]),
        (word_pieces, [3, 4, 7, 8, 9, 5, 6]),
    ],
    ids=["words", "bytes", "sentence pieces", "spaces in front", "word pieces"],
)
def test_the_text_of_an_ordinary_response_is_the_librarys(make: Any, ids: list[int]) -> None:
    tokenizer = make()
    ended = [*ids, tokenizer.eos_token_id]
    plain: list[str] = tokenizer.batch_decode([ids, ended, []], skip_special_tokens=True)
    assert response_decoder(tokenizer)([ids, ended, []]) == plain
    assert plain[0]


def test_text_after_the_turn_is_left_out() -> None:
    tokenizer = tokenizer_with(families.CHATML)
    turn = (
        "The answer is \\boxed{5}.<|im_end|>\n<|im_start|>user\nAnd 3+4?<|im_end|>\n<|im_start|>assistant\n\\boxed{7}"
    )
    (text,) = response_decoder(tokenizer)([ids_of(tokenizer, turn)])
    assert text == "The answer is \\boxed{5}."


def test_ends_that_are_passed_replace_the_tokenizers() -> None:
    tokenizer = word_level(["a", "b"])
    assert response_decoder(tokenizer, (4,))([[3, 4, 3]]) == ["a"]
    assert response_decoder(tokenizer, ())([[3, 4, 3]]) == ["a b a"]


def test_special_tokens_within_a_response_stay_visible_to_the_verifier() -> None:
    tokenizer = tokenizer_with(families.CHATML, ["<think>", "</think>"])
    response = "<think>maybe \\boxed{4}</think>The answer is \\boxed{5}"
    (text,) = response_decoder(tokenizer)([ids_of(tokenizer, response + "<|im_end|>")])
    assert text == response
    (open_thought,) = response_decoder(tokenizer)([ids_of(tokenizer, "<think>The answer is 5<|im_end|>")])
    assert judge("5", open_thought).extracted is None


def test_padding_and_beginnings_are_left_out_at_the_borders_only() -> None:
    tokenizer = word_level(["a", "b"])
    decode = response_decoder(tokenizer)
    assert decode([[1, 0, 3, 4, 1, 0, 2, 0, 0]]) == ["a b"]
    assert decode([[3, 1, 4], [3, 0, 4]]) == ["a <bos> b", "a <pad> b"]
    assert decode([[], [2], [0, 1], [0, 2, 3]]) == ["", "", "", ""]


def test_no_responses_give_no_texts() -> None:
    assert response_decoder(byte_level())([]) == []


def test_a_generation_config_adds_ends(tmp_path: Path) -> None:
    shutil.copytree(POLICY, tmp_path / "policy")
    path = tmp_path / "policy" / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": [2, 105]}))
    (tmp_path / "policy" / "manifest.json").unlink()  # its digest of the file no longer matches
    tokens = [[9, 103, 9, 105, 15]]
    assert open_decoder(POLICY)(tokens) == ["6 + 6 = 12"]
    assert open_decoder(tmp_path / "policy")(tokens) == ["6 + 6"]
    with open_sampler(tmp_path / "policy", SamplingConfig(), ComputeConfig()) as (_, decode):
        assert decode(tokens) == ["6 + 6"]
