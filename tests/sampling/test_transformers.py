"""The decoding loop: grouped heads, batches, prefill passes and the draw; test_suite.py has what all samplers share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from extra_rl.config.sections import ComputeConfig, SamplingConfig
from extra_rl.errors import ModelError
from extra_rl.sampling import decode
from extra_rl.sampling.base import Request, Sample, decoding_order, no_progress
from extra_rl.sampling.decode_cache import TRIM, DecodeCache
from extra_rl.sampling.draw import draw
from extra_rl.sampling.open import open_sampler
from extra_rl.sampling.plain import PlainDecoder
from extra_rl.sampling.transformers import TransformersSampler
from extra_rl.scoring.batches import TokenSequence
from extra_rl.scoring.statistics import response_statistics
from tests.conftest import POLICY
from tests.models import EOS, random_qwen3

PROMPTS = [(1, 5, 9), (1, 7), (1, 5, 9, 11, 13, 20), (1, 33, 4, 8)]


def requests(samples: int = 6, limit: int = 24) -> list[Request]:
    return [Request(p, limit, seed=100 * i + n) for i, p in enumerate(PROMPTS) for n in range(samples)]


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_logprobs_are_the_policys_own(kv_heads: int, temperature: float) -> None:
    model = random_qwen3(kv_heads=kv_heads)
    requested = requests()
    samples = TransformersSampler(model, [EOS]).sample(requested, SamplingConfig(temperature=temperature))
    model.set_attn_implementation("eager")
    batch = [TokenSequence(r.context, s.tokens) for r, s in zip(requested, samples, strict=True)]
    with torch.inference_mode():
        logprob_BT, _, mask_BT = response_statistics(model, batch, temperature)
    sampled = torch.tensor([value for s in samples for value in s.logprobs])
    torch.testing.assert_close(logprob_BT[mask_BT], sampled, atol=2e-4, rtol=1e-4)


def forward_passes(model: Any, requested: list[Request], **settings: Any) -> tuple[list[tuple[int, ...]], list[Sample]]:
    """Shapes (rows, tokens) of what the model read, and the samples. Nothing ends before its limit."""
    shapes: list[tuple[int, ...]] = []
    sampler = TransformersSampler(model, [])  # the probe's passes come before the hook
    hook = model.model.embed_tokens.register_forward_hook(lambda module, args, output: shapes.append(args[0].shape))
    samples = sampler.sample(requested, SamplingConfig(**settings))
    hook.remove()
    return shapes, samples


def test_waiting_requests_take_the_places_of_finished_ones() -> None:
    requested = [Request(PROMPTS[0], 40, 0)] + [Request(PROMPTS[0], 2, seed) for seed in range(1, 21)]
    shapes, _ = forward_passes(random_qwen3(), requested, batch_rows=2)
    # The 39 steps of the long row suffice: the short rows run next to it, one after another.
    assert sum(tokens == 1 for _, tokens in shapes) == 39


def test_a_context_is_read_once_for_all_its_samples() -> None:
    requested = [Request(prompt, 2, seed) for seed in range(5) for prompt in PROMPTS]
    shapes, _ = forward_passes(random_qwen3(), requested)
    assert shapes == [(4, 6), (20, 1)]


def test_long_and_short_prefixes_share_a_batch_without_changing_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of equal length, with contexts of 4 to 44 tokens: the cache is as wide as a row, and the tokens are those of
    each request alone."""
    made: list[tuple[int, int]] = []
    start = DecodeCache.__init__

    def recorded(cache: DecodeCache, rows: int, capacity: int) -> None:
        made.append((rows, capacity))
        start(cache, rows, capacity)

    monkeypatch.setattr(DecodeCache, "__init__", recorded)
    prompt = (1, 5, 9, 4)
    requested = [Request(prompt + (7,) * cut, 48 - cut, 100 * cut + n) for cut in (0, 10, 25, 40) for n in range(6)]
    model = random_qwen3()
    alone = [TransformersSampler(model, [EOS]).sample([r], SamplingConfig())[0].tokens for r in requested]
    unended = [TransformersSampler(model, []).sample([r], SamplingConfig())[0].tokens for r in requested]
    for rows in (24, 7):
        made.clear()
        found = TransformersSampler(model, [EOS]).sample(requested, SamplingConfig(batch_rows=rows))
        assert [s.tokens for s in found] == alone
        found = TransformersSampler(model, []).sample(requested, SamplingConfig(batch_rows=rows))
        assert [s.tokens for s in found] == unended
        assert made == [(rows, 52 + TRIM)] * 2


def test_a_full_cache_drops_the_few_long_rows_that_have_ended() -> None:
    """Two of 24 rows end early: too few to rebuild the batch for, but the others need their columns."""
    prompt = (1, 5, 9, 4)
    requested = [Request(prompt + (7,) * 40, 8, n) for n in range(2)] + [Request(prompt, 48, n) for n in range(2, 24)]
    model = random_qwen3()
    found = TransformersSampler(model, []).sample(requested, SamplingConfig())
    for n in (0, 2, 23):
        assert found[n].tokens == TransformersSampler(model, []).sample([requested[n]], SamplingConfig())[0].tokens


def test_a_large_prefill_pass_ends_before_too_much_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    requested = [Request((3,) * length, 2, length) for length in (4, 4, 5, 5, 9, 9, 9)]
    requested = [Request((*r.context[:-1], n), 2, n) for n, r in enumerate(requested)]  # no two are equal
    whole = TransformersSampler(random_qwen3(), []).sample(requested, SamplingConfig())
    monkeypatch.setattr(decode, "PREFILL_ENOUGH", 12)
    shapes, parts = forward_passes(random_qwen3(), requested)
    assert shapes[:3] == [(2, 4), (2, 5), (3, 9)]  # with a third context, 2 of 15 tokens and 8 of 27 would be padding
    assert [s.tokens for s in parts] == [s.tokens for s in whole]


def test_contexts_are_read_in_passes_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    requested = requests()
    whole = TransformersSampler(random_qwen3(), []).sample(requested, SamplingConfig())
    monkeypatch.setattr(decode, "PREFILL_TOKENS", 8)
    shapes, parts = forward_passes(random_qwen3(), requested)
    assert shapes[:3] == [(2, 3), (1, 4), (1, 6)]  # (1, 7) and (1, 5, 9) fit together, padded
    assert [s.tokens for s in parts] == [s.tokens for s in whole]


LOGITS_BV = torch.log(torch.tensor([[0.1, 0.4, 0.3, 0.2]]))


@pytest.mark.parametrize(
    ("uniform", "settings", "token", "probability"),
    [
        (0.05, {}, 0, 0.1),
        (0.11, {}, 1, 0.4),
        (0.79, {}, 2, 0.3),
        (0.999, {}, 3, 0.2),
        (0.0, {"top_k": 2}, 1, 4 / 7),  # kept: 0.4 and 0.3
        (0.99, {"top_k": 2}, 2, 3 / 7),
        (0.99, {"top_p": 0.6}, 2, 3 / 7),  # 0.4 + 0.3 reach 0.6
        (0.99, {"top_p": 0.4}, 1, 1.0),  # 0.4 alone reaches it
        (0.0, {"top_p": 0.95}, 0, 0.1),  # all four are needed
    ],
)
def test_a_draw_inverts_the_cumulative_distribution(
    uniform: float, settings: dict[str, float], token: int, probability: float
) -> None:
    token_B, logprob_B = draw(LOGITS_BV, torch.tensor([uniform], dtype=torch.float64), SamplingConfig(**settings))
    assert token_B.tolist() == [token]
    assert logprob_B.exp().item() == pytest.approx(probability, rel=1e-5)


def test_draw_divides_by_the_temperature() -> None:
    _, logprob_B = draw(LOGITS_BV, torch.tensor([0.11], dtype=torch.float64), SamplingConfig(temperature=0.5))
    squares = torch.tensor([0.01, 0.16, 0.09, 0.04])
    assert logprob_B.exp().item() == pytest.approx((squares[1] / squares.sum()).item(), rel=1e-5)


def test_rows_of_one_length_refuse_a_context_of_one_token() -> None:
    """RecurrentGemma keeps state between calls of generate, and a single token would go on from it."""
    decoder = PlainDecoder(random_qwen3(), [EOS], padding=False)
    with pytest.raises(ModelError, match="a context of one token is not"):
        decoder.sample([Request((5,), 3, 0)], SamplingConfig())
    assert len(decoder.sample([Request((5, 6), 3, 0)], SamplingConfig())) == 1


def test_requests_are_taken_by_the_length_of_their_context_then_by_context() -> None:
    taken = decoding_order([Request((3, 1), 9, 0), Request((2,), 9, 1), Request((3, 1), 9, 2), Request((1, 1), 9, 3)])
    assert taken == [1, 3, 0, 2]


@pytest.mark.parametrize("path", [POLICY, POLICY / "manifest.json"], ids=["directory", "manifest"])
def test_a_sampler_in_bfloat16_agrees_up_to_rounding(path: Path) -> None:
    drawn = []
    for precision in ("float32", "bfloat16"):
        with open_sampler(path, SamplingConfig(), ComputeConfig(precision=precision)) as (sampler, _):
            drawn.append(
                sampler.sample([Request((1, 6, 7, 107), 8, n) for n in range(6)], SamplingConfig(), no_progress)
            )
    first = [[sample.logprobs[0] for sample in samples] for samples in drawn]
    assert first[1] != first[0]
    assert first[1] == pytest.approx(first[0], abs=0.1)
