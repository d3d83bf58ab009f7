"""The probe of an engine: the tokens it scores, and the engines it refuses."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from extra_rl.algorithms.mismatch import TOLERANCE
from extra_rl.errors import NumericalError
from extra_rl.sampling.vllm.probe import policy_logprobs, probe_sequences, refuse_another_policy
from tests.models import random_qwen3

WHERE = Path("policy")


def test_probe_tokens_are_fixed_and_fit_the_context() -> None:
    probes = probe_sequences(40, 128)
    assert probes == probe_sequences(40, 128)
    assert [len(row) for row in probes] == [32] * 8
    assert {0 <= token < 40 for row in probes for token in row} == {True}
    assert len({token for row in probes for token in row}) == 40
    assert {len(row) for row in probe_sequences(40, 10)} == {9}  # one place is left for the engine to sample


def test_the_policys_logprobs_come_from_its_own_forward_pass() -> None:
    model, probes = random_qwen3(), [(1, 5, 9, 30), (3, 4, 4, 7)]
    found = policy_logprobs(model, probes)
    with torch.inference_mode():
        logprob_BLV = model(torch.tensor(probes)).logits.log_softmax(-1)
    for row, probe in enumerate(probes):
        assert found[row] == pytest.approx([logprob_BLV[row, i, probe[i + 1]].item() for i in range(3)], abs=1e-5)


def test_an_engine_is_refused_by_the_mean_difference() -> None:
    own, engine = [[-1.0, -2.0], [-3.0, -4.0]], [[-1.2, -2.0], [-2.8, -4.0]]  # mean difference 0.1, mean of both -2.5
    refuse_another_policy(own, engine, 0.101, WHERE)
    with pytest.raises(NumericalError, match=r"4 probe tokens .* 0\.1000 nats on average, the tolerance is 0\.099"):
        refuse_another_policy(own, engine, 0.099, WHERE)


def test_nan_exceeds_every_tolerance() -> None:
    with pytest.raises(NumericalError, match="the engine does not sample"):
        refuse_another_policy([[-1.0]], [[float("nan")]], 1e9, WHERE)
    with pytest.raises(NumericalError, match="its weights contain NaN"):
        refuse_another_policy([[float("nan")]], [[-1.0]], 1e9, WHERE)


def corrupted_head(model: Any) -> Any:
    """A copy whose head differs from its embeddings, as the stale head of a tied model does."""
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    noise = 0.02 * torch.randn(other.lm_head.weight.shape, generator=generator)
    other.lm_head.weight = torch.nn.Parameter(other.lm_head.weight.detach() + noise)
    return other


def test_a_corrupted_head_fails_and_the_same_weights_pass() -> None:
    model = random_qwen3()
    probes = probe_sequences(40, 128)
    expected = policy_logprobs(model, probes)
    refuse_another_policy(expected, policy_logprobs(copy.deepcopy(model), probes), 1e-6, WHERE)
    with pytest.raises(NumericalError, match="does not sample from the policy"):
        refuse_another_policy(expected, policy_logprobs(corrupted_head(model), probes), TOLERANCE["float32"], WHERE)
