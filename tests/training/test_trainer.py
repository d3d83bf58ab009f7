"""Optimizer steps: denominators, micro-batches, and a state that survives on disk."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from extra_rl.errors import NumericalError
from extra_rl.models.policy import OPTIMIZER_FILE, Policy
from extra_rl.scoring.batches import TokenSequence
from extra_rl.scoring.statistics import response_statistics
from extra_rl.training.optimizer import load_optimizer, optimizer_state
from extra_rl.training.rollouts import TrainingRollout, minibatches_of
from extra_rl.training.settings import LossSettings
from extra_rl.training.trainer import Trainer
from tests.models import random_qwen3

SETTINGS = LossSettings(
    loss="clipped",
    aggregate="token_mean",
    clip_low=0.2,
    clip_high=0.28,
    dual_clip=10.0,
    importance_cap=2.0,
    kl_weight=0.0,
    entropy_weight=0.0,
    signal_only=False,
    tokens_per_batch=10_000,
    learning_rate=1.0,
    warmup_steps=0,
    gradient_clip=1e9,
    temperature=1.0,
    max_response_tokens=8,
)


def rollouts(model: Any, advantages: list[float]) -> list[TrainingRollout]:
    """Rollouts of growing length whose old logprobs are the model's own."""
    sequences = [TokenSequence((1, 5 + i), (*range(6, 8 + i), 2)) for i in range(len(advantages))]
    with torch.inference_mode():
        logprob_BT, _, mask_BT = response_statistics(model, sequences, 1.0)
    old = [row[mask].tolist() for row, mask in zip(logprob_BT, mask_BT, strict=True)]
    return [
        TrainingRollout(f"r{i}", f"g{i // 2}", s, old[i], old[i], advantages[i], loss_start=0, prefix_length=0)
        for i, s in enumerate(sequences)
    ]


def step(settings: LossSettings, advantages: list[float], **changes: object) -> tuple[Any, dict[str, float] | None]:
    """One plain SGD step from fixed weights: weights move by the gradient itself."""
    model = random_qwen3()
    batch = [replace(r, **changes) for r in rollouts(model, advantages)]
    optimizer = torch.optim.SGD(model.parameters(), lr=settings.learning_rate)
    return model, Trainer(model, optimizer, settings, None).step(batch)  # type: ignore[arg-type]


def moved(model: Any) -> torch.Tensor:
    start = torch.cat([p.flatten() for p in random_qwen3().parameters()])
    return torch.cat([p.detach().flatten() for p in model.parameters()]) - start


@pytest.mark.parametrize("aggregate", ["token_mean", "sequence_mean", "constant"])
@pytest.mark.parametrize("loss", ["clipped", "gspo", "cispo"])
def test_micro_batches_add_up_to_the_mini_batch(loss: str, aggregate: str) -> None:
    settings = replace(SETTINGS, loss=loss, aggregate=aggregate)
    advantages = [1.0, -0.5, 0.0, 2.0, -1.0]
    whole, figures = step(settings, advantages)
    cut, cut_figures = step(replace(settings, tokens_per_batch=1), advantages)
    assert figures is not None
    assert cut_figures is not None
    torch.testing.assert_close(moved(cut), moved(whole), atol=1e-5, rtol=1e-3)
    assert cut_figures["loss"] == pytest.approx(figures["loss"], abs=1e-6)
    assert cut_figures["approx_kl"] == pytest.approx(figures["approx_kl"], abs=1e-9)


def test_rows_without_a_signal_stay_in_the_denominator() -> None:
    with_zero, figures = step(SETTINGS, [1.0, 0.0, 0.0])
    only_signal, signal_figures = step(replace(SETTINGS, signal_only=True), [1.0, 0.0, 0.0])
    assert figures is not None
    assert signal_figures is not None
    # 3 + 4 + 5 response tokens; one row of 3 carries the signal.
    assert (figures["loss_tokens"], signal_figures["loss_tokens"]) == (12, 3)
    assert (figures["signal_rows"], figures["rows"]) == (1, 3)
    torch.testing.assert_close(moved(only_signal), 4 * moved(with_zero), atol=1e-5, rtol=1e-3)


def test_no_signal_takes_no_step() -> None:
    model, figures = step(SETTINGS, [0.0, 0.0])
    assert figures is None
    assert not moved(model).any()


def test_masked_prefix_tokens_carry_no_loss() -> None:
    """What the prefix's old logprobs and sampler logprobs are makes no difference once it is masked."""
    model = random_qwen3()
    plain = [replace(r, loss_start=2, prefix_length=2) for r in rollouts(model, [1.0, -1.0])]
    spoiled = [
        replace(
            r, old_logprobs=[-9.0, -9.0, *r.old_logprobs[2:]], sampler_logprobs=[-1.0, -1.0, *r.sampler_logprobs[2:]]
        )
        for r in plain
    ]
    results = []
    for batch in (plain, spoiled):
        model = random_qwen3()
        optimizer = torch.optim.SGD(model.parameters(), lr=SETTINGS.learning_rate)
        figures = Trainer(model, optimizer, SETTINGS, None).step(batch)  # type: ignore[arg-type]
        assert figures is not None
        results.append((moved(model), figures["loss_tokens"]))
    torch.testing.assert_close(results[0][0], results[1][0], atol=0, rtol=0)
    assert results[0][1] == 1 + 2
    unmasked, _ = step(SETTINGS, [1.0, -1.0])
    assert not torch.allclose(moved(unmasked), results[0][0], atol=1e-6)


def test_the_importance_weight_multiplies_sampled_tokens_and_is_capped() -> None:
    plain, _ = step(SETTINGS, [1.0])
    model = random_qwen3()
    (rollout,) = rollouts(model, [1.0])
    twice = replace(rollout, sampler_logprobs=[v - 0.405465 for v in rollout.old_logprobs])  # ratio 1.5
    far = replace(rollout, sampler_logprobs=[v - 5 for v in rollout.old_logprobs])
    given = replace(far, prefix_length=3)  # no token of it was sampled in this call
    for changed, factor in ((twice, 1.5), (far, 2.0), (given, 1.0)):
        model = random_qwen3()
        optimizer = torch.optim.SGD(model.parameters(), lr=SETTINGS.learning_rate)
        figures = Trainer(model, optimizer, SETTINGS, None).step([changed])  # type: ignore[arg-type]
        assert figures is not None
        torch.testing.assert_close(moved(model), factor * moved(plain), atol=1e-5, rtol=1e-3)


def test_the_gradient_is_that_of_the_token_mean() -> None:
    """On policy the ratio is 1, so the gradient is that of -sum(A logprob) / tokens."""
    model = random_qwen3()
    batch = rollouts(model, [1.0, -0.5])
    logprob_BT, _, mask_BT = response_statistics(model, [r.sequence for r in batch], 1.0)
    advantage_B1 = torch.tensor([[1.0], [-0.5]])
    (-(logprob_BT * advantage_B1)[mask_BT].sum() / mask_BT.sum()).backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    trained, _ = step(SETTINGS, [1.0, -0.5])
    torch.testing.assert_close(moved(trained), -gradient, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("aggregate", ["token_mean", "constant"])
def test_the_kl_term_has_the_gradient_of_its_estimator(aggregate: str) -> None:
    """No advantage: the gradient is that of kl_weight * mean of c ln pi, with c = d for k1 and k2, 1 - e^-d for k3."""
    reference = random_qwen3(seed=1)
    for kl in ("k1", "k2", "k3"):
        model = random_qwen3()
        batch = rollouts(model, [0.0, 0.0, 0.0])
        sequences = [r.sequence for r in batch]
        logprob_BT, _, mask_BT = response_statistics(model, sequences, 1.0)
        with torch.no_grad():
            d_BT = logprob_BT - response_statistics(reference, sequences, 1.0)[0]
        coefficient_BT = 1 - (-d_BT).exp() if kl == "k3" else d_BT
        denominator = 3 * SETTINGS.max_response_tokens if aggregate == "constant" else 3 + 4 + 5
        (0.3 * (coefficient_BT.detach() * logprob_BT)[mask_BT].sum() / denominator).backward()
        expected = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        start = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
        settings = replace(SETTINGS, kl=kl, kl_weight=0.3, aggregate=aggregate, tokens_per_batch=12)
        optimizer = torch.optim.SGD(model.parameters(), lr=settings.learning_rate)
        figures = Trainer(model, optimizer, settings, reference).step(batch)
        assert figures is not None
        value_BT = {"k1": d_BT, "k2": d_BT.square() / 2, "k3": (-d_BT).expm1() + d_BT}[kl]
        assert figures["kl_to_reference"] == pytest.approx(value_BT[mask_BT].mean().item(), rel=1e-4)
        after = torch.cat([p.detach().flatten() for p in model.parameters()])
        torch.testing.assert_close(after - start, -expected, atol=1e-5, rtol=1e-3)


def test_nan_stops_the_step_and_leaves_the_weights() -> None:
    model = random_qwen3()
    (rollout,) = rollouts(model, [1.0])
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with pytest.raises(NumericalError, match="rollout r0"):
        Trainer(model, optimizer, SETTINGS, None).step([replace(rollout, advantage=float("nan"))])  # type: ignore[arg-type]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def gradient(changes: dict[str, Any], *, checkpointing: bool = False) -> tuple[torch.Tensor, int]:
    """The gradient of a step, and the bytes that autograd kept for its backward pass (weights not counted)."""
    model = random_qwen3()
    batch = rollouts(model, [1.0, -0.5, 2.0])
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    settings = replace(SETTINGS, **changes)
    optimizer = torch.optim.SGD(model.parameters(), lr=settings.learning_rate)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        Trainer(model, optimizer, settings, None).step(batch)  # type: ignore[arg-type]
    return torch.cat([p.grad.flatten() for p in model.parameters()]), sum(kept.values())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_gradient_checkpointing_keeps_less_and_gives_the_same_gradient(precision: str) -> None:
    plain, kept = gradient({"precision": precision})
    recomputed, less = gradient({"precision": precision}, checkpointing=True)
    torch.testing.assert_close(recomputed, plain, atol=1e-6, rtol=0)
    # What is left is the head and the loss; the two layers' own inputs are not autograd's to keep.
    assert less + 2 * 4 * 32 * (7 + 6 + 5) < 0.5 * kept


def test_bfloat16_steps_keep_float32_weights_and_nearly_the_gradient() -> None:
    plain, _ = gradient({})
    rounded, _ = gradient({"precision": "bfloat16"})
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, plain)
    assert (rounded - plain).norm() < 0.05 * plain.norm()


def test_optimizer_state_survives_on_disk(tmp_path: Path) -> None:
    """Two steps in one process equal a step, a save, a load and a step, bit for bit."""
    from safetensors.torch import save_file

    options: dict[str, Any] = {"learning_rate": 1e-2, "betas": (0.9, 0.95), "weight_decay": 0.01}

    def take_step(model: Any, optimizer: torch.optim.AdamW) -> None:
        settings = replace(SETTINGS, warmup_steps=4)
        figures = Trainer(model, optimizer, settings, None).step(rollouts(model, [1.0, -1.0]))
        assert figures is not None
        rates.append(figures["learning_rate"])

    rates: list[float] = []
    straight = random_qwen3()
    optimizer = load_optimizer(Policy(straight, None, (2,), tmp_path / "none"), **options)
    take_step(straight, optimizer)
    resumed = copy.deepcopy(straight)
    save_file(optimizer_state(optimizer, straight), tmp_path / OPTIMIZER_FILE)
    take_step(straight, optimizer)
    take_step(resumed, load_optimizer(Policy(resumed, None, (2,), tmp_path), **options))
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), resumed.parameters(), strict=True))
    assert rates == pytest.approx([0.25, 0.5, 0.5])


def test_minibatches_hold_every_row_once_and_keep_groups_together() -> None:
    batch = rollouts(random_qwen3(), [1.0] * 8)
    parts = list(minibatches_of(batch, 2, seed=3))
    assert sorted(r.rollout_id for part in parts for r in part) == sorted(r.rollout_id for r in batch)
    assert not {r.group for r in parts[0]} & {r.group for r in parts[1]}
    assert [r.rollout_id for r in parts[0]] == [r.rollout_id for r in next(minibatches_of(batch, 2, seed=3))]
