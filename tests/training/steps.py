"""Settings, rollouts and weights for tests of optimizer steps."""

from __future__ import annotations

from typing import Any

import torch

from extra_rl.scoring.batches import TokenSequence
from extra_rl.scoring.statistics import response_statistics
from extra_rl.training.rollouts import TrainingRollout
from extra_rl.training.settings import UpdateSettings
from tests.models import random_qwen3


def settings(precision: str = "float32", **changes: Any) -> UpdateSettings:
    """The defaults, with one micro-batch per step, weights that move by the gradient (SGD), and `changes`."""
    section = {"tokens_per_batch": 10_000, "learning_rate": 1.0, "gradient_clip": 1e9, **changes}
    shared = {"sampling": {"max_response_tokens": 8}, "compute": {"precision": precision}}
    return UpdateSettings.model_validate({**shared, **section})


def rollouts(model: Any, advantages: list[float]) -> list[TrainingRollout]:
    """Rollouts of 3, 4, ... response tokens whose old logprobs are the model's own; two per group."""
    sequences = [TokenSequence((1, 5 + i), (*range(6, 8 + i), 2)) for i in range(len(advantages))]
    with torch.inference_mode():
        logprob_BT, _, mask_BT = response_statistics(model, sequences, 1.0)
    old = [row[mask].tolist() for row, mask in zip(logprob_BT, mask_BT, strict=True)]
    return [
        TrainingRollout(f"r{i}", f"g{i // 2}", s, old[i], old[i], advantages[i], loss_start=0, prefix_length=0)
        for i, s in enumerate(sequences)
    ]


def moved(model: Any) -> torch.Tensor:
    """How far the weights have moved from `random_qwen3()`, in one vector."""
    start = torch.cat([p.flatten() for p in random_qwen3().parameters()])
    return torch.cat([p.detach().flatten() for p in model.parameters()]) - start
