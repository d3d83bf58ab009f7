"""Rollouts as the loss reads them, and the mini-batches that they are trained in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from extra_rl.scoring.batches import TokenSequence
from extra_rl.seeding import generator


@dataclass(frozen=True)
class TrainingRollout:
    """A rollout as the loss reads it; the lists have one value per response token.

    loss_start: number of response tokens at the start that carry no loss. prefix_length: number of response tokens at
    the start that were not sampled in this call, so they carry no importance weight. token_advantages: one advantage
    for each response token; None: `advantage` for all of them.
    """

    rollout_id: str
    group: str
    sequence: TokenSequence
    old_logprobs: list[float]
    sampler_logprobs: list[float]
    advantage: float
    loss_start: int
    prefix_length: int
    token_advantages: list[float] | None = None

    @property
    def has_signal(self) -> bool:
        """Whether a token that carries loss has an advantage other than 0."""
        if self.token_advantages is None:
            return self.loss_tokens > 0 and self.advantage != 0
        return any(self.token_advantages[self.loss_start :])

    @property
    def loss_tokens(self) -> int:
        """Number of tokens that carry loss."""
        return len(self.sequence.response) - self.loss_start


def to_rollouts(rows: pl.DataFrame) -> list[TrainingRollout]:
    """Return rows of the advantage table, joined with tokens and logprobs, as rollouts."""
    return [
        TrainingRollout(
            row["rollout_id"],
            row["advantage_group"],
            TokenSequence(row["prompt_tokens"], row["response_tokens"]),
            row["policy_logprobs"] or [],  # null where a row without a signal was not scored
            row["sampler_logprobs"] or [],  # null of an imported row without a signal
            row["advantage"],
            row["loss_start"],
            row["prefix_length"],
            row["token_advantages"],
        )
        for row in rows.iter_rows(named=True)
    ]


def minibatches_of(rollouts: Sequence[TrainingRollout], count: int, seed: int) -> Iterator[list[TrainingRollout]]:
    """Yield the rollouts in `count` parts of nearly equal size.

    Groups follow each other in a seeded order, so a part boundary splits at most one group.
    """
    groups = sorted({rollout.group for rollout in rollouts})
    place = {groups[g]: k for k, g in enumerate(generator(seed).permutation(len(groups)))}
    ordered = sorted(rollouts, key=lambda rollout: place[rollout.group])
    for part in np.array_split(np.arange(len(ordered)), count):
        yield [ordered[i] for i in part]
