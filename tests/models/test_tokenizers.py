"""Tokenizers: encoding and decoding restores texts exactly, before and after saving."""

from collections.abc import Callable
from pathlib import Path

import pytest

from extra_rl.errors import ConfigError
from extra_rl.models.tokenizers import byte_level, word_level

TEXTS = ["4 + 12 = 16", "", "Ünïcödé 日本語 😀", " two  spaces\n\ttab\x00 , . don 't", "<|im_end|>\n"]


def reload(tokenizer, folder: Path):
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(params=["fresh", "reloaded"])
def prepare(request: pytest.FixtureRequest, tmp_path: Path) -> Callable:
    return (lambda tokenizer: tokenizer) if request.param == "fresh" else (lambda t: reload(t, tmp_path))


def test_word_level(prepare: Callable) -> None:
    tokenizer = prepare(word_level(["4", "12", "+", "-"]))
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    assert len(tokenizer) == 7
    assert tokenizer("12 - 4")["input_ids"] == [1, 4, 6, 3]
    assert tokenizer("12 - 4", add_special_tokens=False)["input_ids"] == [4, 6, 3]
    assert tokenizer.decode([1, 4, 6, 3, 2], skip_special_tokens=True) == "12 - 4"
    assert tokenizer.decode([1, 4, 2]) == "<bos> 12 <eos>"
    assert tokenizer(["4", "12 - 4"], padding=True)["input_ids"] == [[0, 0, 1, 3], [1, 4, 6, 3]]
    with pytest.raises(Exception, match="UNK"):
        tokenizer("12 - 5")


@pytest.mark.parametrize("vocabulary", [["4", "4"], ["<pad>"], ["a b"], [""]])
def test_an_invalid_vocabulary_is_refused(vocabulary: list[str]) -> None:
    with pytest.raises(ConfigError, match="vocabulary"):
        word_level(vocabulary)


@pytest.mark.parametrize("text", TEXTS)
def test_byte_level_restores_any_text(prepare: Callable, text: str) -> None:
    tokenizer = prepare(byte_level())
    token_ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(token_ids) == text
    if "<|" not in text:
        assert len(token_ids) == len(text.encode())


def test_byte_level_decodes_invalid_bytes_without_an_error(prepare: Callable) -> None:
    tokenizer = prepare(byte_level())
    euro = tokenizer("€")["input_ids"]
    assert len(euro) == 3
    assert tokenizer.decode(euro[:2]) == "\N{REPLACEMENT CHARACTER}"
    assert len(tokenizer.decode(list(range(len(tokenizer))))) > 0


def test_chat_template_ends_each_turn_with_eos(prepare: Callable) -> None:
    tokenizer = prepare(byte_level())
    messages = [{"role": "user", "content": "hi"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    token_ids = tokenizer(text)["input_ids"]
    assert token_ids.count(tokenizer.eos_token_id) == 1
    assert token_ids.count(tokenizer.bos_token_id) == 2
