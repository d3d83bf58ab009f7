"""The verdicts of responses, and their default rewards.

Every task uses the verdicts of `mathjudge`. "Wrong", "truncated" and "the reference answer cannot be parsed" require
different actions, and the last must never be a silent zero in a group's statistics.
"""

from __future__ import annotations

from mathjudge.verdict import Judgement, Verdict

__all__ = ["DEFAULT_REWARDS", "Judgement", "Verdict"]

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
