"""Models on a device that is not the CPU: all tensors that meet the model's lie there, and results are the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from extra_rl.config.sections import ComputeConfig, SamplingConfig
from extra_rl.errors import ConfigError
from extra_rl.models.embedding import policy_hidden_states
from extra_rl.models.policy import OPTIMIZER_FILE, Policy
from extra_rl.sampling.base import Request
from extra_rl.sampling.transformers import TransformersSampler
from extra_rl.scoring.statistics import response_statistics
from extra_rl.training.optimizer import load_optimizer, optimizer_state
from extra_rl.training.trainer import Trainer
from extra_rl.training.warm_start import train
from tests.models import random_qwen3
from tests.models.test_policy import SEQUENCES
from tests.other_device import Elsewhere, other_device, put_there
from tests.training.test_trainer import SETTINGS, rollouts

ADAM: dict[str, Any] = {"learning_rate": 1e-2, "betas": (0.9, 0.95), "weight_decay": 0.01}


def test_the_other_device_refuses_to_meet_the_cpu() -> None:
    with other_device():
        there = torch.ones(3).to("meta")
        assert (there + torch.ones(()) + 1).tolist() == [3, 3, 3]
        with pytest.raises(RuntimeError, match=r"aten\.add\.Tensor: tensors on two devices"):
            there + torch.ones(3)


def test_statistics() -> None:
    expected = response_statistics(random_qwen3(), SEQUENCES, 0.7)
    with other_device():
        found = response_statistics(put_there(random_qwen3()), SEQUENCES, 0.7)
        assert {tensor.device.type for tensor in found} == {"meta"}
    for here, there in zip(expected, found, strict=True):
        np.testing.assert_allclose(there.tolist(), here.tolist(), atol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"loss": "gspo", "aggregate": "sequence_mean"},
        {"loss": "cispo", "aggregate": "constant"},
        {"kl_weight": 0.1, "entropy_weight": 0.1, "importance_cap": None},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())) or "default",
)
def test_a_step_and_the_state_that_the_next_one_starts_from(tmp_path: Path, changes: dict[str, Any]) -> None:
    settings = replace(SETTINGS, learning_rate=1e-2, **changes)
    batch = rollouts(random_qwen3(), [1.0, -0.5, 0.3])

    def two_steps(there: bool) -> list[float]:
        model, reference = random_qwen3(), random_qwen3(seed=1) if settings.kl_weight else None
        if there:
            model, reference = put_there(model), reference and put_there(reference)
        for folder in (tmp_path / "none", tmp_path):
            optimizer = load_optimizer(Policy(model, None, (2,), folder), **ADAM)
            assert Trainer(model, optimizer, settings, reference).step(batch) is not None
            state = optimizer_state(optimizer, model)
            assert not any(isinstance(tensor, Elsewhere) for tensor in state.values())
            save_state(tmp_path, state)
        weights: list[float] = model.model.layers[0].mlp.up_proj.weight.flatten().tolist()
        return weights

    here = two_steps(there=False)
    with other_device():
        assert two_steps(there=True) == pytest.approx(here, abs=1e-5)


def save_state(folder: Path, state: dict[str, torch.Tensor]) -> None:
    from safetensors.torch import save_file

    save_file(state, folder / OPTIMIZER_FILE)


def test_sampling_draws_the_same_tokens() -> None:
    requests = [Request((1, 5, 9), 20, 3), Request((1, 5, 9), 12, 4), Request((1, 7), 20, 5), Request((1,), 20, 6)]
    config = SamplingConfig(top_p=0.9, top_k=20)
    here = TransformersSampler(random_qwen3(), (2,)).sample(requests, config)
    with other_device():
        there = TransformersSampler(put_there(random_qwen3()), (2,)).sample(requests, config)
    assert [sample.tokens for sample in there] == [sample.tokens for sample in here]
    assert {sample.finish_reason for sample in here} == {"stop", "length"}
    for a, b in zip(here, there, strict=True):
        assert b.logprobs == pytest.approx(a.logprobs, abs=1e-5)


def test_hidden_states() -> None:
    responses = [[1, 2, 3], [4, 5, 6, 7, 8]]
    with other_device():
        found_ND = policy_hidden_states(put_there(random_qwen3()), responses)
    np.testing.assert_allclose(found_ND, policy_hidden_states(random_qwen3(), responses), atol=1e-5)


def test_warm_start() -> None:
    def losses(model: Any) -> list[float]:
        found: list[float] = []
        train(
            model,
            lambda step, batch: [([1, 5, 6], [9, 10, 2]), ([1, 7], [8, 2])],
            steps=3,
            stop_at=2,
            batch=2,
            lr=1e-2,
            warmup=0,
            weight_decay=0.0,
            on_step=lambda step, loss: found.append(loss),
        )
        return found

    with other_device():
        there = losses(put_there(random_qwen3()))
    assert there == pytest.approx(losses(random_qwen3()), abs=1e-5)


def test_the_device_is_chosen_and_a_missing_one_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    threads = torch.get_num_threads()
    try:
        assert [ComputeConfig(device=name).apply() for name in ("auto", "cpu")] == ["cpu", "cpu"]
        with pytest.raises(ConfigError, match=r"compute\.device is cuda, but torch sees no CUDA device"):
            ComputeConfig(device="cuda").apply()
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        assert [ComputeConfig(device=name).apply() for name in ("auto", "cpu", "cuda")] == ["cuda", "cpu", "cuda"]
        assert torch.get_float32_matmul_precision() == "highest"
        ComputeConfig(precision="bfloat16").apply()
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
        torch.set_num_threads(threads)
