"""An advantage for every token: the gradient is that of a loss written by hand, in every layout and for every loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from extra_rl.scoring.statistics import response_statistics
from extra_rl.training.rollouts import TrainingRollout
from extra_rl.training.trainer import Trainer
from tests.models import random_qwen3
from tests.training.steps import moved, rollouts, settings

PER_TOKEN = ([0.5, -1.0, 2.0], None, [0.0, 0.3, -0.7, 0.0, 1.5])
"""Of rollouts of 3, 4 and 5 response tokens; the second has one advantage, 0.8, for all."""
SHIFT = 0.15
"""Old logprobs differ from the policy's by this, so that the ratio is exp(0.15) = 1.16, or its inverse."""


def batch_of(start: int = 0) -> list[TrainingRollout]:
    made = []
    for i, rollout in enumerate(rollouts(random_qwen3(), [9.0, 0.8, 9.0])):
        old = [value + SHIFT * (-1) ** t for t, value in enumerate(rollout.old_logprobs)]
        made.append(
            replace(
                rollout,
                token_advantages=PER_TOKEN[i],
                old_logprobs=old,
                sampler_logprobs=old,
                loss_start=start if i == 2 else 0,
                prefix_length=start if i == 2 else 0,
            )
        )
    return made


def clipped(ratio: torch.Tensor, advantage: float, logprob: torch.Tensor) -> torch.Tensor:
    return -torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.28) * advantage)


def cispo(ratio: torch.Tensor, advantage: float, logprob: torch.Tensor) -> torch.Tensor:
    return -ratio.detach().clamp(max=1.28) * advantage * logprob


def supervised(ratio: torch.Tensor, advantage: float, logprob: torch.Tensor) -> torch.Tensor:
    return -advantage * logprob


def gspo(ratio: torch.Tensor, advantage: float, logprob: torch.Tensor) -> torch.Tensor:
    return -torch.minimum(ratio * advantage, ratio.clamp(0.5, 1.5) * advantage)


HAND: dict[str, Callable[[torch.Tensor, float, torch.Tensor], torch.Tensor]] = {
    "clipped": clipped,
    "cispo": cispo,
    "supervised": supervised,
    "gspo": gspo,
}
CLIPS = {"gspo": {"clip_low": 0.5, "clip_high": 0.5}}


def by_hand(batch: list[TrainingRollout], loss: str) -> torch.Tensor:
    """Minus the gradient of the token mean, token by token, in one vector."""
    model = random_qwen3()
    logprob_BT, _, _ = response_statistics(model, [r.sequence for r in batch], 1.0)
    total, tokens = torch.zeros(()), 0
    for row, rollout in enumerate(batch):
        length = len(rollout.sequence.response)
        ratios = (logprob_BT[row, :length] - torch.tensor(rollout.old_logprobs)).exp()
        with_loss = range(rollout.loss_start, length)
        if loss == "gspo":  # the value of the sequence's mean, with each token's own gradient
            mean = torch.stack([ratios[t].log() for t in with_loss]).mean().exp().detach()
            ratios = mean * ratios / ratios.detach()
        for t in with_loss:
            advantage = rollout.token_advantages[t] if rollout.token_advantages else rollout.advantage
            total = total + HAND[loss](ratios[t], advantage, logprob_BT[row, t])
            tokens += 1
    (total / tokens).backward()
    return -torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def stepped(batch: list[TrainingRollout], **changes: Any) -> tuple[torch.Tensor, dict[str, float]]:
    model = random_qwen3()
    metrics = Trainer(model, torch.optim.SGD(model.parameters(), lr=1.0), settings(**changes), None).step(batch)
    assert metrics is not None
    return moved(model), metrics


@pytest.mark.parametrize("start", [0, 2])
@pytest.mark.parametrize("layout", ["padded", "packed", "shared_prefix"])
@pytest.mark.parametrize("loss", HAND)
def test_the_gradient_is_that_of_a_loss_by_hand(loss: str, layout: str, start: int) -> None:
    batch = batch_of(start)
    found, metrics = stepped(batch, loss=loss, layout=layout, **CLIPS.get(loss, {}))
    torch.testing.assert_close(found, by_hand(batch, loss), atol=1e-5, rtol=1e-3)
    assert metrics["loss_tokens"] == 12 - start
    cut, _ = stepped(batch, loss=loss, layout=layout, tokens_per_batch=1, **CLIPS.get(loss, {}))
    torch.testing.assert_close(cut, found, atol=1e-5, rtol=1e-3)


def test_equal_tokens_are_one_advantage_bit_for_bit() -> None:
    plain = rollouts(random_qwen3(), [1.0, -0.5])
    listed = [replace(r, advantage=0.0, token_advantages=[r.advantage] * len(r.sequence.response)) for r in plain]
    (expected, figures), (found, same) = stepped(plain), stepped(listed)
    torch.testing.assert_close(found, expected, atol=0, rtol=0)
    assert figures == same


def test_a_row_has_a_signal_where_a_token_with_loss_has_one() -> None:
    (rollout,) = rollouts(random_qwen3(), [5.0])
    zero = replace(rollout, token_advantages=[0.0, 0.0, 0.0])
    before_loss = replace(rollout, token_advantages=[1.0, 0.0, 0.0], loss_start=1)
    cancelling = replace(rollout, advantage=0.0, token_advantages=[1.0, -1.0, 0.0])
    assert [r.has_signal for r in (rollout, zero, before_loss, cancelling)] == [True, False, False, True]
    assert Trainer(random_qwen3(), torch.optim.SGD(random_qwen3().parameters()), settings(), None).step([zero]) is None
    _, metrics = stepped([cancelling, zero])
    assert (metrics["rows"], metrics["signal_rows"]) == (2, 1)
