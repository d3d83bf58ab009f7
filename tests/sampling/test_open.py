"""The sampler that the configuration names, in the precision that it names."""

from __future__ import annotations

import pytest

from extra_rl.config.sections import ComputeConfig, SamplingConfig
from extra_rl.sampling.base import Request
from extra_rl.sampling.open import open_sampler
from tests.conftest import POLICY

REQUESTS = [Request((1, 6, 7, 107), 8, seed) for seed in range(6)]


@pytest.mark.parametrize("path", [POLICY, POLICY / "manifest.json"], ids=["directory", "manifest"])
def test_a_sampler_in_bfloat16_rounds_and_agrees(path: object) -> None:
    drawn = []
    for name in ("float32", "bfloat16"):
        with open_sampler(path, SamplingConfig(), ComputeConfig(precision=name)) as (sampler, _):
            drawn.append(sampler.sample(REQUESTS, SamplingConfig(), lambda n: None))
    first = [[sample.logprobs[0] for sample in samples if sample.tokens] for samples in drawn]
    assert first[1] != first[0]
    assert first[1] == pytest.approx(first[0], abs=0.1)
