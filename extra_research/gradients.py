"""The gradient of the policy loss, group by group, at the policy that sampled: two passes over the batch.

The first pass computes the gradient G of the whole batch, the second one group's gradient at a time, of which only its
norm and its product with G are kept. Memory: the model, its gradient, and G.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from extra_research.noise import Products
from extra_rl.errors import NumericalError
from extra_rl.models.protocol import CausalLM
from extra_rl.training.rollouts import TrainingRollout
from extra_rl.training.settings import UpdateSettings

AGREEMENT = 1e-3
"""Largest difference, relative to |G|^2, between |G|^2 and the sum of the groups' products with G."""


def policy_loss(settings: UpdateSettings) -> UpdateSettings:
    """Return the settings of `update` for the policy's loss alone: no KL or entropy term, no clipping of the norm.

    The learning rate is 0, so that a step does not change the weights.
    """
    off = {"kl_weight": 0.0, "entropy_weight": 0.0, "learning_rate": 0.0, "warmup_steps": 0, "gradient_clip": math.inf}
    return settings.model_copy(update=off)


def group_products(
    model: CausalLM, rollouts: Sequence[TrainingRollout], groups: Mapping[str, str], settings: UpdateSettings
) -> Products:
    """Return the products of every group's gradient that the noise estimates need.

    Each gradient is that of the loss of `update` with the denominator of the whole batch, so that the groups' gradients
    add up to the batch's. A group without a signal has gradient 0 and counts.

    Args:
        model: the policy that sampled the rollouts.
        rollouts: those that the loss counts.
        groups: rollout_id -> group.
        settings: of `update`.

    Raises NumericalError where the groups' gradients do not add up.
    """
    import torch

    from extra_rl.training.trainer import Trainer

    measured = policy_loss(settings)
    trainer = Trainer(model, torch.optim.SGD(model.parameters(), lr=0.0), measured, None)
    parts: dict[str, list[TrainingRollout]] = {}
    for rollout in rollouts:
        parts.setdefault(groups[rollout.rollout_id], []).append(rollout)
    squared_K, dot_K = np.zeros(len(parts)), np.zeros(len(parts))
    if trainer.step(rollouts) is None:
        return Products(list(parts), squared_K, dot_K, 0.0)
    whole = [p.grad.clone() if p.grad is not None else None for p in model.parameters()]
    total = _product(whole, whole)
    denominator = denominator_of(rollouts, measured)
    for i, part in enumerate(parts.values()):
        if trainer.step(part) is not None:
            own = [p.grad for p in model.parameters()]
            share = denominator_of(part, measured) / denominator
            squared_K[i], dot_K[i] = share**2 * _product(own, own), share * _product(own, whole)
    model.zero_grad()
    if abs(dot_K.sum() - total) > AGREEMENT * total:
        raise NumericalError(
            f"the groups' gradients do not add up to the batch's: {dot_K.sum():.6g} is not |G|^2 = {total:.6g}. "
            "Set compute.precision: float32, or look at the policy's weights."
        )
    return Products(list(parts), squared_K, dot_K, total)


def denominator_of(rollouts: Sequence[TrainingRollout], settings: UpdateSettings) -> int:
    """Return what `update` divides these rollouts' summed loss by, as one mini-batch: loss tokens or sequences."""
    counted = [r for r in rollouts if r.loss_tokens > 0 and (r.has_signal or not settings.signal_only)]
    return sum(r.loss_tokens for r in counted) if settings.aggregate == "token_mean" else len(counted)


def _product(first: Sequence[Any], second: Sequence[Any]) -> float:
    """Return the inner product over all parameters; those without a gradient add 0."""
    import torch

    return sum(
        float(torch.dot(a.flatten(), b.flatten()))
        for a, b in zip(first, second, strict=True)
        if a is not None and b is not None
    )
