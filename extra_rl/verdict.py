"""The verdicts of responses, their numbers, and their default rewards.

Every task uses the verdicts of `mathjudge`. "Wrong", "truncated" and "the reference answer cannot be parsed" require
different actions, and the last must never be a silent zero in a group's statistics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mathjudge.verdict import Judgement, Verdict

__all__ = ["BUILT_IN", "DEFAULT_REWARDS", "SCORE", "UNJUDGED", "Judgement", "Scored", "Verdict"]

DEFAULT_REWARDS: dict[Verdict, float | None] = {
    Verdict.RIGHT: 1.0,
    Verdict.WRONG: 0.0,
    Verdict.NO_ANSWER: 0.0,
    Verdict.TRUNCATED: 0.0,
    Verdict.TIMEOUT: 0.0,
    Verdict.GOLD_UNPARSEABLE: None,
    Verdict.ERROR: None,
}
"""Reward of each verdict unless `verify.rewards` sets another; None: excluded from the group's statistics."""

UNJUDGED = tuple(verdict.value for verdict, reward in DEFAULT_REWARDS.items() if reward is None)
"""Verdicts of responses that could not be judged: evaluation and report leave them out and count them."""

SCORE = "score"
"""Name of the number of a judge that returns a single one."""

BUILT_IN = ("correct", "length", "truncated")
"""Numbers that every judge can be combined with: 1 if correct, else 0; response tokens; 1 if cut off, else 0."""


@dataclass(frozen=True)
class Scored(Judgement):
    """A judgement with numbers.

    Attributes:
        numbers: name -> finite number that the judge returned.
        total: the reward unless `verify.weights` weighs the numbers; None: the reward of the verdict.
    """

    numbers: Mapping[str, float] = field(default_factory=dict)
    total: float | None = None
