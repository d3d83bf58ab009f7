"""The guarantees of every sampler: one suite for the simplest sampler, the paths of transformers, and vLLM."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
import torch

from extra_rl.config.sections import ComputeConfig, SamplingConfig
from extra_rl.devices.acquire import acquire
from extra_rl.models.policy import load_policy
from extra_rl.sampling.base import Advance, Request, Sample, Sampler, no_progress
from extra_rl.sampling.open import open_sampler
from extra_rl.sampling.plain import PlainDecoder
from extra_rl.sampling.text import Decode, StopStrings, response_decoder
from extra_rl.scoring.batches import TokenSequence
from extra_rl.scoring.statistics import response_statistics
from tests.conftest import POLICY
from tests.sampling.plain import PlainSampler

MANIFEST = POLICY / "manifest.json"
CONTEXTS = [(1, 6, 7, 107), (1, 9), (1, 40, 6, 23, 11, 14, 30), (1, 52, 61)]
LIMIT = 24

needs_vllm = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vLLM is not installed: make test-vllm"
)
BACKENDS = [
    "plain",
    "transformers",
    "generate-padded",
    "generate-unpadded",
    pytest.param("vllm", marks=needs_vllm),
]


@pytest.fixture(scope="module", params=BACKENDS)
def sampler(request: pytest.FixtureRequest) -> Iterator[Sampler]:
    acquire(ComputeConfig())
    backend, _, where = request.param.partition("-")
    with ExitStack() as stack:
        if backend == "plain":
            policy = load_policy(MANIFEST)
            yield PlainSampler(
                policy.model, policy.eos_token_ids, response_decoder(policy.tokenizer, policy.eos_token_ids)
            )
        elif backend == "generate":
            policy = load_policy(MANIFEST)
            stops = StopStrings(policy.tokenizer, policy.eos_token_ids)
            yield PlainDecoder(policy.model, policy.eos_token_ids, padding=where == "padded", stops=stops)
        else:
            yield stack.enter_context(open_sampler(MANIFEST, SamplingConfig(backend=backend), ComputeConfig()))[0]


@pytest.fixture(scope="module")
def model() -> Any:
    return load_policy(MANIFEST).model


@pytest.fixture(scope="module")
def eos() -> tuple[int, ...]:
    return load_policy(MANIFEST).eos_token_ids


@pytest.fixture(scope="module")
def decode() -> Decode:
    policy = load_policy(MANIFEST)
    return response_decoder(policy.tokenizer, policy.eos_token_ids)


def requests(samples: int = 4, limit: int = LIMIT) -> list[Request]:
    return [Request(c, limit, seed=2**62 + 1000 * i + n) for i, c in enumerate(CONTEXTS) for n in range(samples)]


def draw(
    sampler: Sampler,
    requested: Sequence[Request],
    advance: Advance = no_progress,
    **settings: Any,
) -> list[Sample]:
    return sampler.sample(requested, SamplingConfig(**settings), advance)


def tokens(samples: Sequence[Sample]) -> list[list[int]]:
    return [sample.tokens for sample in samples]


def own_logprobs(
    model: Any, requested: Sequence[Request], samples: Sequence[Sample], temperature: float
) -> torch.Tensor:
    batch = [TokenSequence(r.context, s.tokens) for r, s in zip(requested, samples, strict=True)]
    with torch.inference_mode():
        logprob_BT, _, mask_BT = response_statistics(model, batch, temperature)
    return logprob_BT[mask_BT]


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_logprobs_are_the_policys_own(sampler: Sampler, model: Any, temperature: float) -> None:
    requested = requests()
    samples = draw(sampler, requested, temperature=temperature)
    sampled = torch.tensor([value for s in samples for value in s.logprobs])
    own = own_logprobs(model, requested, samples, temperature)
    torch.testing.assert_close(sampled, own, atol=1e-3, rtol=0)
    assert own.std() > 0.1  # not all certain: a wrong temperature would show


def test_a_prefix_is_only_a_longer_context(sampler: Sampler, model: Any, eos: tuple[int, ...]) -> None:
    """Samples are conditioned on all of it and do not repeat it. The contexts share their first 36 tokens, more than a
    block of a prefix cache, and then differ."""
    shared = CONTEXTS[0] * 9
    first = draw(sampler, [Request(shared, 6, seed) for seed in range(12)], temperature=2.0)
    prefixes = [[t for t in sample.tokens if t not in eos] for sample in first]
    requested = [Request((*shared, *prefix), 6, 100 + i) for i, prefix in enumerate(prefixes)]
    assert len({r.context for r in requested}) > 6
    samples = draw(sampler, requested)
    assert max(map(len, tokens(samples))) <= 6
    sampled = torch.tensor([value for s in samples for value in s.logprobs])
    torch.testing.assert_close(sampled, own_logprobs(model, requested, samples, 1.0), atol=1e-3, rtol=0)


def test_logprobs_are_the_policys_own_with_more_contexts_than_a_step_reads(sampler: Sampler, model: Any) -> None:
    """4,200 tokens of distinct contexts: an engine that splits one of them over two steps loses its seeds."""
    requested = [Request((1, 3 + i, *CONTEXTS[2] * 8), 2, seed=i) for i in range(72)]
    samples = draw(sampler, requested)
    sampled = torch.tensor([value for s in samples for value in s.logprobs])
    torch.testing.assert_close(sampled, own_logprobs(model, requested, samples, 1.0), atol=1e-3, rtol=0)


def test_a_response_ends_with_a_stop_token_or_at_its_limit(sampler: Sampler, eos: tuple[int, ...]) -> None:
    requested = [Request(r.context, 1 + 5 * (n % 12), r.seed) for n, r in enumerate(requests(16))]
    samples = draw(sampler, requested)
    assert {s.finish_reason for s in samples} == {"stop", "length"}
    for request, sample in zip(requested, samples, strict=True):
        ends = [token in eos for token in sample.tokens]
        assert 1 <= len(sample.tokens) == len(sample.logprobs) <= request.max_tokens
        assert not any(ends[:-1])
        assert ends[-1] == (sample.finish_reason == "stop")
        assert ends[-1] or len(sample.tokens) == request.max_tokens


def test_the_same_seed_draws_the_same_tokens_and_another_seed_others(sampler: Sampler) -> None:
    requested = requests()
    once, again = draw(sampler, requested), draw(sampler, requested)
    assert again == once
    others = draw(sampler, [Request(r.context, r.max_tokens, r.seed + 500) for r in requested])
    assert sum(a != b for a, b in zip(tokens(once), tokens(others), strict=True)) > len(requested) / 2
    assert len({tuple(t) for t in tokens(once[:4])}) > 1  # one context, four seeds


def test_tokens_do_not_depend_on_neighbours_order_or_batch_size(sampler: Sampler) -> None:
    requested = requests()
    together = tokens(draw(sampler, requested))
    assert tokens(draw(sampler, requested, batch_rows=5)) == together
    assert tokens(draw(sampler, requested[::-1]))[::-1] == together
    assert [tokens(draw(sampler, [r]))[0] for r in requested] == together
    assert tokens(draw(sampler, requested[3:9])) == together[3:9]


def test_every_finished_request_is_counted_once(sampler: Sampler) -> None:
    finished: list[int] = []
    draw(sampler, requests(), finished.append, batch_rows=7)
    assert sum(finished) == len(requests())
    assert min(finished) >= 0


def cut(decode: Decode, request: Request, sample: Sample, stop: Sequence[str]) -> Sample:
    """A sample without stop strings, cut where they end it; decodes after every token."""
    for count in range(1, len(sample.tokens) + 1):
        (text,) = decode([[*request.prefix, *sample.tokens[:count]]])
        if any(string in text for string in stop):
            return Sample(sample.tokens[:count], sample.logprobs[:count], "stop")
    return sample


@pytest.mark.parametrize(
    "stop",
    [["8"], ["+ 3"], ["6 +", "8 +"], ["= "]],
    ids=["within a token", "ends within one", "one of two begins within one", "a space that the next token brings"],
)
def test_a_response_ends_with_the_token_that_completes_a_stop_string(
    sampler: Sampler, decode: Decode, stop: list[str]
) -> None:
    requested, finished = requests(), [0]
    expected = [cut(decode, r, s, stop) for r, s in zip(requested, draw(sampler, requested), strict=True)]
    samples = draw(sampler, requested, finished.append, batch_rows=3, stop=stop)
    assert tokens(samples) == tokens(expected)
    assert [s.finish_reason for s in samples] == [s.finish_reason for s in expected]
    for sample, would_be in zip(samples, expected, strict=True):
        assert sample.logprobs == pytest.approx(would_be.logprobs, abs=1e-4)
    holds = [any(string in text for string in stop) for text in decode(tokens(samples))]
    assert set(holds) == {True, False}
    assert sum(finished) == len(requested)


def test_a_stop_string_may_begin_in_the_prefix_and_not_in_the_prompt(sampler: Sampler, decode: Decode) -> None:
    whole = draw(sampler, requests(1))
    requested = [Request((*r.context, *s.tokens[:3]), 8, r.seed + 9) for r, s in zip(requests(1), whole, strict=True)]
    goes_on = draw(sampler, requested)
    seams = [decode([[r.context[-1], s.tokens[0]]])[0] for r, s in zip(requested, goes_on, strict=True)]
    assert all(" " in seam for seam in seams)  # no token contains one
    for request, seam, would_be in zip(requested, seams, goes_on, strict=True):
        of_the_response, of_the_prompt = draw(sampler, [replace(request, prefix_length=3), request], stop=[seam])
        assert (of_the_response.tokens, of_the_response.finish_reason) == (would_be.tokens[:1], "stop")
        assert of_the_prompt.tokens == cut(decode, request, would_be, [seam]).tokens
        assert len(of_the_prompt.tokens) > 1


def test_no_requests_give_no_samples(sampler: Sampler) -> None:
    assert draw(sampler, []) == []


def test_frequencies_follow_the_distribution(sampler: Sampler, model: Any) -> None:
    """Seeds of different requests are independent, and their draws follow the policy: the first token, 1,500 times."""
    requested = [Request(CONTEXTS[0], 1, seed) for seed in range(1500)]
    drawn = torch.tensor([t[0] for t in tokens(draw(sampler, requested, temperature=1.5))])
    with torch.inference_mode():
        probability_V = (model(torch.tensor([CONTEXTS[0]])).logits[0, -1] / 1.5).softmax(-1)
    share_V = torch.bincount(drawn, minlength=len(probability_V)) / len(requested)
    error_V = (probability_V * (1 - probability_V) / len(requested)).sqrt()
    assert ((share_V - probability_V).abs() < 4.5 * error_V + 2e-3).all()


@pytest.mark.parametrize("settings", [{"top_k": 3}, {"top_p": 0.5}])
def test_a_cut_distribution_is_renormalised(sampler: Sampler, model: Any, settings: dict[str, float]) -> None:
    if isinstance(sampler, PlainSampler):
        pytest.skip("the plain sampler draws from the whole distribution")
    requested = [Request(CONTEXTS[1], 1, seed) for seed in range(64)]
    samples = draw(sampler, requested, temperature=1.5, **settings)
    with torch.inference_mode():
        sorted_V, index_V = (model(torch.tensor([CONTEXTS[1]])).logits[0, -1] / 1.5).softmax(-1).sort(descending=True)
    count = settings.get("top_k") or int((sorted_V.cumsum(0) < settings["top_p"]).sum()) + 1
    kept = dict(zip(index_V[:count].tolist(), (sorted_V[:count] / sorted_V[:count].sum()).tolist(), strict=True))
    assert {s.tokens[0] for s in samples} <= set(kept)
    for sample in samples:
        assert torch.tensor(sample.logprobs[0]).exp().item() == pytest.approx(kept[sample.tokens[0]], abs=1e-4)
