"""Gradients of groups: they add up to the batch's own, and nothing of the policy moves."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from extra_research.gradients import group_products, policy_loss
from extra_rl.errors import NumericalError
from extra_rl.training.rollouts import TrainingRollout
from extra_rl.training.settings import UpdateSettings
from extra_rl.training.trainer import Trainer
from tests.models import random_qwen3
from tests.training.steps import rollouts, settings

ADVANTAGES = [1.0, -0.5, 0.0, 2.0, -1.0, 0.0, 0.0]
"""Of rollouts with 3 to 9 response tokens in groups g0 to g3, two to a group; the last one, alone, has no signal."""


def gradient(model: Any, batch: list[TrainingRollout], section: UpdateSettings) -> torch.Tensor:
    """The gradient of a batch's loss, all parameters in one vector."""
    trainer = Trainer(model, torch.optim.SGD(model.parameters(), lr=0.0), policy_loss(section), None)
    if trainer.step(batch) is None:
        return torch.zeros(sum(p.numel() for p in model.parameters()))
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def alone(batch: list[TrainingRollout], group: str) -> list[TrainingRollout]:
    """The whole batch with the other groups' advantages taken away: they stay in the denominator."""
    return [replace(r, advantage=r.advantage if r.group == group else 0.0) for r in batch]


@pytest.mark.parametrize("aggregate", ["token_mean", "sequence_mean", "constant"])
@pytest.mark.parametrize("loss", ["clipped", "gspo", "cispo"])
def test_the_groups_gradients_add_up_to_the_batchs(loss: str, aggregate: str) -> None:
    model, section = random_qwen3(), settings(loss=loss, aggregate=aggregate)
    batch = rollouts(model, ADVANTAGES)
    whole = gradient(model, batch, section)
    parts = {f"g{i}": gradient(model, alone(batch, f"g{i}"), section) for i in range(4)}
    torch.testing.assert_close(sum(parts.values()), whole, atol=1e-5, rtol=1e-4)
    found = group_products(model, batch, {r.rollout_id: r.group for r in batch}, section)
    assert found.names_K == list(parts)
    assert found.total == pytest.approx(float(whole @ whole), rel=1e-5)
    assert found.squared_K.tolist() == pytest.approx([float(g @ g) for g in parts.values()], rel=1e-4)
    assert found.dot_K.tolist() == pytest.approx([float(g @ whole) for g in parts.values()], rel=1e-4, abs=1e-6)
    assert found.dot_K.sum() == pytest.approx(found.total, rel=1e-5)
    assert found.squared_K[3] == 0.0


def test_rows_without_a_signal_may_leave_the_denominator() -> None:
    model = random_qwen3()
    batch = rollouts(model, ADVANTAGES)
    names = {r.rollout_id: r.group for r in batch}
    every, signal = (group_products(model, batch, names, settings(signal_only=s)) for s in (False, True))
    # 3 + 4 + ... + 9 response tokens; the rows of 5, 8 and 9 carry no signal.
    assert math.sqrt(signal.total / every.total) == pytest.approx(42 / 20, rel=1e-4)
    assert signal.dot_K.sum() == pytest.approx(signal.total, rel=1e-5)


def test_the_policy_stays_as_it_is_and_keeps_no_gradient() -> None:
    model = random_qwen3()
    batch = rollouts(model, ADVANTAGES)
    before = [p.detach().clone() for p in model.parameters()]
    group_products(model, batch, {r.rollout_id: r.group for r in batch}, settings(learning_rate=1.0))
    for old, new in zip(before, model.parameters(), strict=True):
        torch.testing.assert_close(new, old, atol=0, rtol=0)
        assert new.grad is None


def test_the_norm_is_not_clipped() -> None:
    model = random_qwen3()
    batch = rollouts(model, ADVANTAGES)
    names = {r.rollout_id: r.group for r in batch}
    free, clipped = (group_products(model, batch, names, settings(gradient_clip=c)) for c in (1e9, 1e-3))
    assert free.total == clipped.total > 1e-6


def test_a_batch_without_a_signal_has_no_gradient() -> None:
    model = random_qwen3()
    batch = rollouts(model, [0.0, 0.0, 0.0])
    found = group_products(model, batch, {r.rollout_id: r.group for r in batch}, settings())
    assert (found.total, found.squared_K.tolist(), found.names_K) == (0.0, [0.0, 0.0], ["g0", "g1"])


def test_gradients_that_do_not_add_up_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extra_research.gradients.denominator_of", lambda rollouts, settings: 1)
    model = random_qwen3()
    batch = rollouts(model, ADVANTAGES)
    with pytest.raises(NumericalError, match="do not add up"):
        group_products(model, batch, {r.rollout_id: r.group for r in batch}, settings())
