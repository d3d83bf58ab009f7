"""The decoding loop: what it samples, from which distribution, and that neighbours do not matter."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from extra_rl.policy import TokenSequence, response_statistics
from extra_rl.sampling.base import Request
from extra_rl.sampling.transformers import TransformersSampler, draw
from extra_rl.sections import SamplingConfig
from tests.models import EOS, random_qwen3

PROMPTS = [(1, 5, 9), (1, 7), (1, 5, 9, 11, 13, 20), (1, 33, 4, 8)]


def requests(samples: int = 6, limit: int = 24) -> list[Request]:
    return [Request(p, limit, seed=100 * i + n) for i, p in enumerate(PROMPTS) for n in range(samples)]


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_logprobs_are_the_policys_own(kv_heads: int, temperature: float) -> None:
    model = random_qwen3(kv_heads=kv_heads)
    asked = requests()
    samples = TransformersSampler(model, [EOS]).sample(asked, SamplingConfig(temperature=temperature))
    model.set_attn_implementation("eager")
    batch = [TokenSequence(r.context, s.tokens) for r, s in zip(asked, samples, strict=True)]
    with torch.inference_mode():
        logprob_BT, _, mask_BT = response_statistics(model, batch, temperature)
    sampled = torch.tensor([value for s in samples for value in s.logprobs])
    torch.testing.assert_close(logprob_BT[mask_BT], sampled, atol=2e-4, rtol=1e-4)


def test_a_rollout_does_not_depend_on_its_neighbours_or_on_the_batch_size() -> None:
    model = random_qwen3()
    asked = requests()
    together = TransformersSampler(model, [EOS]).sample(asked, SamplingConfig())
    in_small_batches = TransformersSampler(model, [EOS]).sample(asked, SamplingConfig(batch_rows=5))
    backwards = TransformersSampler(model, [EOS]).sample(asked[::-1], SamplingConfig())[::-1]
    alone = [TransformersSampler(model, [EOS]).sample([r], SamplingConfig())[0] for r in asked]
    for others in (in_small_batches, backwards, alone):
        assert [s.tokens for s in others] == [s.tokens for s in together]


def test_lengths_and_reasons() -> None:
    asked = [Request(r.context, 1 + n % 9, r.seed) for n, r in enumerate(requests())]
    samples = TransformersSampler(random_qwen3(), [EOS, 17]).sample(asked, SamplingConfig())
    assert {s.finish_reason for s in samples} == {"stop", "length"}
    for request, sample in zip(asked, samples, strict=True):
        ends = [token in (EOS, 17) for token in sample.tokens]
        assert len(sample.tokens) == len(sample.logprobs) <= request.max_tokens
        assert not any(ends[:-1])
        assert ends[-1] == (sample.finish_reason == "stop")
        assert ends[-1] or len(sample.tokens) == request.max_tokens


def test_every_finished_row_is_counted_once() -> None:
    finished: list[int] = []
    TransformersSampler(random_qwen3(), [EOS]).sample(requests(), SamplingConfig(batch_rows=7), finished.append)
    assert sum(finished) == len(requests())


def test_frequencies_follow_the_distribution() -> None:
    model = random_qwen3(vocabulary=12)
    asked = [Request((1, 5), 1, seed) for seed in range(6000)]
    samples = TransformersSampler(model, []).sample(asked, SamplingConfig(batch_rows=6000))
    with torch.inference_mode():
        probability_V = model(torch.tensor([[1, 5]])).logits[0, -1].softmax(-1).numpy()
    counts_V = np.bincount([s.tokens[0] for s in samples], minlength=12)
    error_V = np.sqrt(probability_V * (1 - probability_V) / 6000)
    assert (np.abs(counts_V / 6000 - probability_V) < 4.5 * error_V + 1e-3).all()


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
def test_draw_by_hand(uniform: float, settings: dict[str, float], token: int, probability: float) -> None:
    token_B, logprob_B = draw(LOGITS_BV, torch.tensor([uniform], dtype=torch.float64), SamplingConfig(**settings))
    assert token_B.tolist() == [token]
    assert logprob_B.exp().item() == pytest.approx(probability, rel=1e-5)


def test_draw_divides_by_the_temperature() -> None:
    _, logprob_B = draw(LOGITS_BV, torch.tensor([0.11], dtype=torch.float64), SamplingConfig(temperature=0.5))
    squares = torch.tensor([0.01, 0.16, 0.09, 0.04])
    assert logprob_B.exp().item() == pytest.approx((squares[1] / squares.sum()).item(), rel=1e-5)
