"""The reward of a judged response: that of its verdict, the number of its judge, or a weighted sum of numbers.

Source: our decision. A sum of named numbers is the usual form of a shaped reward.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import polars as pl

from extra_rl.judging.result import failed
from extra_rl.verdict import DEFAULT_REWARDS, Judgement, Scored, Verdict


class Rewarded(NamedTuple):
    """A judgement with its reward (None: excluded) and its numbers, those of the weights included."""

    judgement: Judgement
    reward: float | None
    numbers: dict[str, float]


@dataclass(frozen=True)
class RewardRule:
    """How a judgement becomes a reward.

    Args:
        rewards: verdict -> reward; None: excluded from the group's statistics.
        weights: name -> weight of a number; empty: the judge's number, or else the reward of the verdict.
    """

    rewards: Mapping[Verdict, float | None] = field(default_factory=lambda: DEFAULT_REWARDS)
    weights: Mapping[str, float] = field(default_factory=dict)

    def __call__(self, judgement: Judgement, *, length: int, truncated: bool) -> Rewarded:
        """Return the reward of a response.

        A verdict without a reward excludes the response, with or without weights. A weighted number that the judge did
        not return counts as 0 where the response has no answer or could not be judged in time; for a correct or
        incorrect one it is the verdict `error`.

        Args:
            judgement: of the response.
            length: response tokens, prefix and end-of-sequence included.
            truncated: whether the response was cut off at the token limit.
        """
        numbers = dict(judgement.numbers) if isinstance(judgement, Scored) else {}
        if not self.weights:
            total = judgement.total if isinstance(judgement, Scored) else None
            return Rewarded(judgement, self.rewards[judgement.verdict] if total is None else total, numbers)
        built_in = {
            "correct": float(judgement.verdict is Verdict.RIGHT),
            "length": float(length),
            "truncated": float(truncated),
        }
        known = built_in | numbers
        missing = [name for name in self.weights if name not in known]
        if missing and judgement.verdict in (Verdict.RIGHT, Verdict.WRONG):
            judgement = failed(
                f"returned no number {missing[0]} (verify.weights); it returned {', '.join(numbers) or 'none'}"
            )
        numbers = {name: value for name, value in known.items() if name in numbers or name in self.weights}
        if self.rewards[judgement.verdict] is None:
            return Rewarded(judgement, None, numbers)
        reward = sum(weight * known.get(name, 0.0) for name, weight in self.weights.items())
        return Rewarded(judgement, reward, numbers)


def rewarded(rows: pl.DataFrame, judgements: Sequence[Judgement], rule: RewardRule) -> list[Rewarded]:
    """Return judgement, reward and numbers of each rollout. rows: `contracts.Rollouts`, in the same order."""
    return [
        rule(judgement, length=length, truncated=finish_reason == "length")
        for judgement, length, finish_reason in zip(
            judgements, rows["response_tokens"].list.len(), rows["finish_reason"], strict=True
        )
    ]


def as_list(numbers: Mapping[str, float]) -> list[dict[str, str | float]] | None:
    """Return named numbers as the value of a column `numbers`, by name; None for none."""
    return [{"name": name, "value": value} for name, value in sorted(numbers.items())] or None
