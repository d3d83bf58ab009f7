"""The sampler gives every family's own numbers, at any batch size."""

from __future__ import annotations

import pytest

from extra_rl.config.sections import SamplingConfig
from extra_rl.sampling.base import Sample
from extra_rl.sampling.transformers import TransformersSampler
from tests.zoo.families import FAMILIES, shared, untouched
from tests.zoo.reference import assert_same_tokens, assert_sampled_by, requests

END = 2


def sampled(name: str, temperature: float, batch_rows: int) -> list[Sample]:
    config = SamplingConfig(temperature=temperature, batch_rows=batch_rows)
    return TransformersSampler(shared(name), (END,)).sample(requests(), config, lambda n: None)


@pytest.mark.parametrize("name", FAMILIES)
def test_logprobs_and_tokens_are_the_models_own(name: str) -> None:
    for temperature in (0.7, 1.0):
        for request, sample in zip(requests(), sampled(name, temperature, 3), strict=True):
            assert sample.finish_reason == ("stop" if sample.tokens[-1] == END else "length")
            assert END not in sample.tokens[:-1]
            assert len(sample.tokens) == request.max_tokens or sample.tokens[-1] == END
            assert_sampled_by(untouched(name), request, sample, temperature)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_same_tokens_at_any_batch_size(name: str) -> None:
    alone = sampled(name, 1.0, 1)
    for batch_rows in (3, 64):
        assert_same_tokens(sampled(name, 1.0, batch_rows), alone, untouched(name), 1.0)
