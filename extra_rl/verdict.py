"""The verdict of one response, and what it is worth as a reward.

The verdicts are those of `mathjudge`, for every task: "wrong", "cut off" and "the reference answer cannot be parsed"
call for different action, and the last must never be a silent zero in a group's statistics.
"""

from __future__ import annotations

from mathjudge.verdict import Judgement, Verdict

__all__ = ["DEFAULT_REWARDS", "UNJUDGED", "Judgement", "Verdict"]

DEFAULT_REWARDS: dict[Verdict, float | None] = {
    Verdict.RIGHT: 1.0,
    Verdict.WRONG: 0.0,
    Verdict.NO_ANSWER: 0.0,
    Verdict.TRUNCATED: 0.0,
    Verdict.TIMEOUT: 0.0,
    Verdict.GOLD_UNPARSEABLE: None,
    Verdict.ERROR: None,
}
"""What a verdict is worth unless `verify.rewards` says otherwise; None: not judged, out of its group's statistics."""

UNJUDGED = tuple(verdict.value for verdict, reward in DEFAULT_REWARDS.items() if reward is None)
"""Verdicts of responses that could not be judged: evaluation and report leave them out and count them."""
