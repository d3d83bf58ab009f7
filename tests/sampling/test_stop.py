"""The tokens that can complete a stop string, and where it ends a response."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from extra_rl.config.sections import ComputeConfig, SamplingConfig
from extra_rl.errors import ConfigError
from extra_rl.models.policy import load_policy
from extra_rl.models.tokenizers import byte_level, word_level
from extra_rl.sampling.base import Request, no_progress
from extra_rl.sampling.decode import FastDecoder
from extra_rl.sampling.open import open_decoder, open_sampler
from extra_rl.sampling.plain import PlainDecoder
from extra_rl.sampling.rollouts import Plan, open_roller
from extra_rl.sampling.text import StopStrings, response_decoder, until_stop
from extra_rl.sampling.transformers import TransformersSampler
from tests.conftest import POLICY
from tests.models import random_qwen3
from tests.sampling.test_decoder import sentence_pieces, word_pieces

EURO = "€".encode()
PIECES = [
    *(bytes([b]) for b in b" \n;8abcxyz.?"),
    *(b"\n\n", b";\n8", b"a\n", b" the", b" a", b"Que", b"stion", b":", b"Question:", b"><", b"</", b"ans", b"wer>"),
    *(EURO[:1], EURO[1:2], EURO[2:], EURO[:2], b"x" + EURO[:1], EURO[2:] + b"y", "é".encode()[:1], "é".encode()[1:]),
]
PAD, BOS, EOS = len(PIECES), len(PIECES) + 1, len(PIECES) + 2


def merged_bytes() -> Any:
    """A byte-level BPE with tokens of several characters, and of parts of one; ids as in PIECES, then pad, bos, eos."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    spell = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    letter_of: dict[int, str] = {}
    for character in (chr(code) for code in (*range(128), 0xE9, 0x20AC)):
        ((letters, _),) = spell.pre_tokenize_str(character)
        letter_of |= zip(character.encode(), letters, strict=True)
    ids = {"".join(letter_of[byte] for byte in piece): n for n, piece in enumerate(PIECES)}
    ids |= {"<pad>": PAD, "<bos>": BOS, "<eos>": EOS}
    tokenizer = Tokenizer(models.BPE(ids, merges=[]))
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>")


def byte_fallback() -> Any:
    """Like Llama's: pieces with a mark for the space, and tokens for bytes that no piece contains."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    pieces = ["<s>", "</s>", "▁the", "▁a", "b", ".", "▁", "ab", *(f"<0x{byte:02X}>" for byte in (*b"\na", *EURO))]
    tokenizer = Tokenizer(models.BPE({piece: n for n, piece in enumerate(pieces)}, merges=[], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")


def suffixed() -> Any:
    """Like CLIP's: the space after a word is decoded once another word follows."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    pieces = ["<s>", "</s>", "a", "b", "a</w>", "b</w>", ".</w>"]
    tokenizer = Tokenizer(
        models.BPE({piece: n for n, piece in enumerate(pieces)}, merges=[], end_of_word_suffix="</w>")
    )
    tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")


TOKENIZERS: list[Callable[[], Any]] = [
    merged_bytes,
    byte_level,
    byte_fallback,
    suffixed,
    sentence_pieces,
    word_pieces,
    lambda: word_level(["4", "12", "+", "="]),
]
NAMES = ["merged bytes", "bytes", "byte fallback", "suffixes", "sentence pieces", "word pieces", "words"]


def ids_of(*pieces: bytes) -> list[int]:
    return [PIECES.index(piece) for piece in pieces]


def ended_by_hand(decode: Any, prefix: Sequence[int], tokens: Sequence[int], stop: Sequence[str]) -> int | None:
    """The number of tokens after which the text contains a stop string; decodes after every token."""
    beginnings = [[*prefix, *tokens[:count]] for count in range(1, len(tokens) + 1)]
    hits = (n for n, text in enumerate(decode(beginnings), 1) if any(string in text for string in stop))
    return next(hits, None)


@pytest.mark.parametrize("make", TOKENIZERS, ids=NAMES)
def test_no_token_that_completes_a_stop_string_is_missed(make: Callable[[], Any]) -> None:
    """Compared with decoding after every token: random tokens, special ones too, and pieces of their texts."""
    tokenizer, random = make(), np.random.default_rng(7)
    stops, decode = StopStrings(tokenizer), response_decoder(tokenizer)
    ids = sorted(tokenizer.get_vocab().values())
    found = 0
    for _ in range(150):
        prefix, tokens = (random.choice(ids, size).tolist() for size in (random.integers(0, 3), 14))
        text = decode([[*prefix, *tokens]])[0] or " "
        start = int(random.integers(len(text)))
        stop = [text[start : start + int(random.integers(1, 5))]]
        rule = stops.rule(stop)
        assert rule is not None
        count = ended_by_hand(decode, prefix, tokens, stop)
        assert rule.end_of(prefix, tokens) == count, (stop, text)
        found += count is not None
    assert found > 60


@pytest.mark.parametrize(
    ("stop", "pieces", "ends", "text"),
    [
        (["\n"], [b"a", b"\n\n", b"b"], 2, "a"),
        ([";"], [b"a", b";\n8", b"b"], 2, "a"),
        (["8"], [b"a", b";\n8", b"b"], 2, "a;\n"),
        (["\n"], [b"a", b";\n8", b"b"], 2, "a;"),
        (["Question:"], [b"8", b"\n", b"Que", b"stion", b":", b"8"], 5, "8\n"),
        (["Question:"], [b"8", b"Question:", b"8"], 2, "8"),
        (["\n\nQue"], [b"8", b"a\n", b"\n", b"Question:"], 4, "8a"),
        (["</answer>"], [b"8", b"</", b"ans", b"wer>", b"a"], 4, "8"),
        (["€"], [b"8", EURO[:1], EURO[1:2], EURO[2:], b"a"], 4, "8"),
        (["€"], [b"8", EURO[:2], EURO[2:] + b"y", b"a"], 3, "8"),
        (["x€y"], [b"8", b"x" + EURO[:1], EURO[1:2], EURO[2:] + b"y", b"a"], 4, "8"),
        (["ion", "est"], [b"Que", b"stion", b"a"], 2, "Qu"),
        (["Quest"], [b"Que", b"b", b"stion"], None, "Quebstion"),
    ],
)
def test_a_stop_string_is_found_within_a_token_and_across_tokens(
    stop: list[str], pieces: list[bytes], ends: int | None, text: str
) -> None:
    tokenizer = merged_bytes()
    rule = StopStrings(tokenizer).rule(stop)
    assert rule is not None
    tokens = ids_of(*pieces)
    assert rule.end_of((), tokens) == ends
    assert response_decoder(tokenizer, stop=stop)([tokens[:ends]]) == [text]


def test_a_stop_string_may_begin_in_the_prefix() -> None:
    rule = StopStrings(merged_bytes()).rule(["Question:", "€"])
    assert rule is not None
    for before, after in (([b"a", b"Que"], [b"stion", b":"]), ([b"x" + EURO[:1]], [EURO[1:2], EURO[2:]])):
        tokens = [*ids_of(*after), *ids_of(b"b")]
        assert rule.end_of(ids_of(*before), tokens) == 2
        assert rule.end_of((), tokens) is None
    # No prefix ends with a stop string; after such a prefix the response would end with the next token.
    assert rule.end_of(ids_of(b"Question:"), ids_of(b"a", b"b")) == 1


def test_the_text_ends_before_the_first_stop_string() -> None:
    assert until_stop("a;b\nc", ["\n", ";"]) == "a"
    assert until_stop("a;b\nc", ["z"]) == "a;b\nc"
    assert until_stop("abcd", ["bcd", "ab"]) == ""
    assert until_stop("ab", []) == "ab"


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        (["\n"], [b"\n", b"\n\n", b";\n8", b"a\n"]),
        (["</answer>"], [b"wer>", b"><"]),
        ([" the"], [b" the"]),
        (["Que"], [b"Que", b"Question:"]),
    ],
)
def test_few_tokens_can_complete_a_stop_string(stop: list[str], expected: list[bytes]) -> None:
    """Only these tokens, and broken bytes, cause decoding."""
    rule = StopStrings(merged_bytes()).rule(stop)
    assert rule is not None
    whole = {token for token in rule.completing if token >= PAD or PIECES[token].isascii()}
    assert whole == set(ids_of(*expected))
    assert rule.completing - whole == {n for n, piece in enumerate(PIECES) if not piece.isascii()}


def test_a_stop_string_that_no_token_produces_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"sampling\.stop .*'=\\n', but no token .* can produce '\\n'"):
        StopStrings(word_level(["4", "="])).rule(["4", "=\n"])
    assert StopStrings(byte_level()).rule(["𝄞"]) is not None
    with (
        pytest.raises(ConfigError, match=r"sampling\.stop"),
        open_sampler(POLICY / "manifest.json", SamplingConfig(stop=["?"]), ComputeConfig()),
    ):
        pass


class Counting:
    """Stop strings whose rule counts the responses that it decodes."""

    def __init__(self, stops: StopStrings) -> None:
        self.decoded = 0
        self._stops = stops

    def rule(self, stop: Sequence[str]) -> Any:
        rule = self._stops.rule(stop)
        assert rule is not None

        def decode(responses: Sequence[Sequence[int]]) -> list[str]:
            self.decoded += len(responses)
            return rule.decode(responses)

        return replace(rule, decode=decode)


@cache
def shared_model() -> Any:
    return random_qwen3(vocabulary=EOS + 1)


def samplers(stops: Any) -> list[Any]:
    """The fast decoder and `generate`, with a model of the tokenizer's vocabulary."""
    model = shared_model()
    return [
        TransformersSampler(model, [EOS], stops),
        PlainDecoder(model, [EOS], stops=stops),
        PlainDecoder(model, [EOS], padding=False, stops=stops),
    ]


REQUESTS = [Request((1, 5 + n % 3, *range(3, 3 + n % 4)), 3 + n % 30, n, prefix_length=n % 3) for n in range(32)]
"""Some with the 8 or the end of a word in a prefix."""


@pytest.mark.parametrize("stop", [["\n"], ["8", "€"], ["the"], ["n"]])
def test_samples_are_those_without_stop_strings_up_to_the_first(stop: list[str]) -> None:
    tokenizer = merged_bytes()
    decode = response_decoder(tokenizer, [EOS])
    counting: Any = Counting(StopStrings(tokenizer, [EOS]))
    stopped = 0
    for sampler in samplers(counting):
        config = SamplingConfig(batch_rows=7, temperature=1.5)
        whole = sampler.sample(REQUESTS, config)
        counting.decoded = 0
        samples = sampler.sample(REQUESTS, config.model_copy(update={"stop": stop}))
        for request, sample, would_be in zip(REQUESTS, samples, whole, strict=True):
            count = ended_by_hand(decode, request.prefix, would_be.tokens, stop)
            assert sample.tokens == would_be.tokens[:count]
            assert sample.finish_reason == (would_be.finish_reason if count is None else "stop")
            assert sample.logprobs == pytest.approx(would_be.logprobs[:count], abs=1e-5)
            stopped += count is not None
        assert counting.decoded < sum(len(sample.tokens) for sample in samples) * 0.6
    assert 6 < stopped < 3 * len(REQUESTS) - 6


def test_without_stop_strings_the_tokenizer_is_not_used() -> None:
    untouched: Any = object()
    with_it, without = (samplers(stops) for stops in (StopStrings(untouched), None))
    for one, other in zip(with_it, without, strict=True):
        assert one.sample(REQUESTS, SamplingConfig()) == other.sample(REQUESTS, SamplingConfig())


def test_stop_strings_need_a_tokenizer() -> None:
    for sampler in samplers(None):
        with pytest.raises(ValueError, match="without a tokenizer"):
            sampler.sample(REQUESTS, SamplingConfig(stop=["a"]))
    assert isinstance(samplers(None)[0]._decoder, FastDecoder)  # three different paths


def test_a_rollout_is_cut_before_the_stop_string_and_keeps_its_tokens() -> None:
    """In the rollouts table: `+ 3` ends within a token, or begins in a prefix."""
    policy = load_policy(POLICY / "manifest.json")
    plus = policy.tokenizer.get_vocab()["+"]
    plans = [Plan(f"a/s0/i0/0/{n}", "g", "p", "fresh", [1, 6, 7, 107]) for n in range(12)]
    plans += [
        replace(plan, rollout_id=f"a/s0/i0/1/{n}", prefix_tokens=(7, plus), prefix_logprobs=(0.0, 0.0))
        for n, plan in enumerate(plans)
    ]
    sampling = SamplingConfig(stop=["+ 3"], max_response_tokens=24)
    with open_roller(plans, POLICY / "manifest.json", sampling, ComputeConfig(), 0) as roll:
        table = roll(plans, no_progress)
    whole = open_decoder(POLICY)(table["response_tokens"].to_list())
    stopped = ["+ 3" in text for text in whole]
    assert any(stopped[:12])
    assert any(stopped[12:])
    for row, text, stop in zip(table.iter_rows(named=True), whole, stopped, strict=True):
        assert row["response"] == text.partition("+ 3")[0]
        assert len(row["sampler_logprobs"]) == len(row["response_tokens"])
        if stop:
            assert row["finish_reason"] == "stop"
            assert "+ 3" not in open_decoder(POLICY)([row["response_tokens"][:-1]])[0]
    assert open_decoder(POLICY, ["+ 3"])(table["response_tokens"].to_list()) == table["response"].to_list()
