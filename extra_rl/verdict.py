"""The verdict of the pipeline: what became of one response.

An enum and not a boolean, because "wrong", "cut off" and "the gold cannot be parsed" call for different action
(and the last must never be a silent zero in a group's statistics). The verdicts of `mathjudge` are among these, equal
by value (`extra_rl.judging.pool`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    RIGHT = "right"
    WRONG = "wrong"
    NO_ANSWER = "no_answer"  # nothing that could be an answer was found
    TRUNCATED = "truncated"  # cut off at the token limit before an answer
    GOLD_UNPARSEABLE = "gold_unparseable"  # our data's fault: excluded, never a silent 0
    TIMEOUT = "timeout"  # the judgement of this text exceeded its time or memory
    ERROR = "error"  # the verifier's fault: excluded, never a silent 0


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


@dataclass(frozen=True)
class Judgement:
    """One verdict with its evidence.

    extracted: the answer that was found in the response (None where there is none).
    rule: the name of the rule that decided, for example "equal_number" or "step_replay".
    """

    verdict: Verdict
    extracted: str | None
    rule: str
