"""Optimizer steps: denominators, micro-batches, masks, precision and memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from extra_rl.errors import NumericalError
from extra_rl.scoring.statistics import response_statistics
from extra_rl.training.rollouts import TrainingRollout, minibatches_of
from extra_rl.training.settings import UpdateSettings
from extra_rl.training.trainer import Trainer
from tests.models import random_qwen3
from tests.training.steps import moved, rollouts, settings


def stepped(
    batch: list[TrainingRollout], section: UpdateSettings | None = None, reference: Any = None, model: Any = None
) -> tuple[torch.Tensor, dict[str, float]]:
    """How far one plain SGD step moves the weights, which is by the gradient itself, and its metrics."""
    model, section = model or random_qwen3(), section or settings()
    optimizer = torch.optim.SGD(model.parameters(), lr=section.learning_rate)
    metrics = Trainer(model, optimizer, section, reference).step(batch)
    assert metrics is not None
    return moved(model), metrics


def batch_of(*advantages: float) -> list[TrainingRollout]:
    return rollouts(random_qwen3(), list(advantages))


@pytest.mark.parametrize("aggregate", ["token_mean", "sequence_mean", "constant"])
@pytest.mark.parametrize("loss", ["clipped", "gspo", "cispo"])
def test_micro_batches_add_up_to_the_mini_batch(loss: str, aggregate: str) -> None:
    batch = batch_of(1.0, -0.5, 0.0, 2.0, -1.0)
    whole, figures = stepped(batch, settings(loss=loss, aggregate=aggregate))
    cut, cut_figures = stepped(batch, settings(loss=loss, aggregate=aggregate, tokens_per_batch=1))
    torch.testing.assert_close(cut, whole, atol=1e-5, rtol=1e-3)
    assert cut_figures["loss"] == pytest.approx(figures["loss"], abs=1e-6)
    assert cut_figures["approx_kl"] == pytest.approx(figures["approx_kl"], abs=1e-9)


def test_rows_without_a_signal_stay_in_the_denominator() -> None:
    batch = batch_of(1.0, 0.0, 0.0)
    every, figures = stepped(batch)
    only_signal, signal_figures = stepped(batch, settings(signal_only=True))
    # 3 + 4 + 5 response tokens; one row of 3 carries the signal.
    assert (figures["loss_tokens"], signal_figures["loss_tokens"]) == (12, 3)
    assert (figures["signal_rows"], figures["rows"]) == (1, 3)
    torch.testing.assert_close(only_signal, 4 * every, atol=1e-5, rtol=1e-3)


def test_a_mini_batch_without_a_signal_takes_no_step() -> None:
    model = random_qwen3()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    assert Trainer(model, optimizer, settings(), None).step(batch_of(0.0, 0.0)) is None
    assert not moved(model).any()


def test_masked_prefix_tokens_carry_no_loss() -> None:
    """Old and sampler logprobs of a masked prefix do not matter."""
    plain = [replace(r, loss_start=2, prefix_length=2) for r in batch_of(1.0, -1.0)]
    changed = [
        replace(
            r, old_logprobs=[-9.0, -9.0, *r.old_logprobs[2:]], sampler_logprobs=[-1.0, -1.0, *r.sampler_logprobs[2:]]
        )
        for r in plain
    ]
    (expected, figures), (found, _) = stepped(plain), stepped(changed)
    torch.testing.assert_close(found, expected, atol=0, rtol=0)
    assert figures["loss_tokens"] == 1 + 2
    assert not torch.allclose(stepped(batch_of(1.0, -1.0))[0], expected, atol=1e-6)


def test_the_importance_weight_multiplies_sampled_tokens_and_is_capped() -> None:
    (rollout,) = batch_of(1.0)
    plain, _ = stepped([rollout])
    larger = replace(rollout, sampler_logprobs=[v - 0.405465 for v in rollout.old_logprobs])  # ratio 1.5
    capped = replace(rollout, sampler_logprobs=[v - 5 for v in rollout.old_logprobs])
    prefix = replace(capped, prefix_length=3)  # no token of it was sampled in this call
    for changed, factor in ((larger, 1.5), (capped, 2.0), (prefix, 1.0)):
        torch.testing.assert_close(stepped([changed])[0], factor * plain, atol=1e-5, rtol=1e-3)


def test_the_gradient_is_that_of_the_token_mean() -> None:
    """On policy the ratio is 1, so the gradient is that of -sum(A logprob) / tokens."""
    model = random_qwen3()
    batch = rollouts(model, [1.0, -0.5])
    logprob_BT, _, mask_BT = response_statistics(model, [r.sequence for r in batch], 1.0)
    advantage_B1 = torch.tensor([[1.0], [-0.5]])
    (-(logprob_BT * advantage_B1)[mask_BT].sum() / mask_BT.sum()).backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(stepped(batch)[0], -gradient, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("aggregate", ["token_mean", "constant"])
def test_the_kl_term_has_the_gradient_of_its_estimator(aggregate: str) -> None:
    """Its gradient is that of kl_weight * mean of c ln pi, with c = d for k1 and k2, 1 - e^-d for k3."""
    reference = random_qwen3(seed=1)
    for kl in ("k1", "k2", "k3"):
        model = random_qwen3()
        batch = rollouts(model, [0.0, 0.0, 0.0])
        sequences = [r.sequence for r in batch]
        logprob_BT, _, mask_BT = response_statistics(model, sequences, 1.0)
        with torch.no_grad():
            d_BT = logprob_BT - response_statistics(reference, sequences, 1.0)[0]
        coefficient_BT = 1 - (-d_BT).exp() if kl == "k3" else d_BT
        section = settings(kl=kl, kl_weight=0.3, aggregate=aggregate, tokens_per_batch=12)
        denominator = 3 * section.sampling.max_response_tokens if aggregate == "constant" else 3 + 4 + 5
        (0.3 * (coefficient_BT.detach() * logprob_BT)[mask_BT].sum() / denominator).backward()
        expected = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        found, figures = stepped(batch, section, reference)
        value_BT = {"k1": d_BT, "k2": d_BT.square() / 2, "k3": (-d_BT).expm1() + d_BT}[kl]
        assert figures["kl_to_reference"] == pytest.approx(value_BT[mask_BT].mean().item(), rel=1e-4)
        torch.testing.assert_close(found, -expected, atol=1e-5, rtol=1e-3)


def test_nan_stops_the_step_and_leaves_the_weights() -> None:
    model = random_qwen3()
    (rollout,) = rollouts(model, [1.0])
    with pytest.raises(NumericalError, match="rollout r0"):
        stepped([replace(rollout, advantage=float("nan"))], model=model)
    assert not moved(model).any()


def gradient(precision: str, *, checkpointing: bool = False) -> tuple[torch.Tensor, int]:
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

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        stepped(batch, settings(precision), model=model)
    return torch.cat([p.grad.flatten() for p in model.parameters()]), sum(kept.values())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_gradient_checkpointing_keeps_less_and_gives_the_same_gradient(precision: str) -> None:
    plain, kept = gradient(precision)
    recomputed, less = gradient(precision, checkpointing=True)
    torch.testing.assert_close(recomputed, plain, atol=1e-6, rtol=0)
    # Head and loss are kept in both cases; checkpointing keeps the two layers' inputs itself, not autograd.
    assert less + 2 * 4 * 32 * (7 + 6 + 5) < 0.5 * kept


def test_bfloat16_steps_keep_float32_weights_and_nearly_the_gradient() -> None:
    plain, _ = gradient("float32")
    rounded, _ = gradient("bfloat16")
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, plain)
    assert (rounded - plain).norm() < 0.05 * plain.norm()


def test_minibatches_hold_every_row_once_and_keep_groups_together() -> None:
    batch = rollouts(random_qwen3(), [1.0] * 8)
    parts = list(minibatches_of(batch, 2, seed=3))
    assert sorted(r.rollout_id for part in parts for r in part) == sorted(r.rollout_id for r in batch)
    assert not {r.group for r in parts[0]} & {r.group for r in parts[1]}
    assert [r.rollout_id for r in parts[0]] == [r.rollout_id for r in next(minibatches_of(batch, 2, seed=3))]
