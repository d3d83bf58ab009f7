"""The outcome of judging one response, and the error of this package.

The verdict is an enum and not a boolean: an incorrect answer, a response that was cut off and a reference answer that
cannot be parsed call for different action, and the last must not count as an incorrect answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    RIGHT = "right"
    WRONG = "wrong"
    NO_ANSWER = "no_answer"  # nothing that could be an answer was found
    TRUNCATED = "truncated"  # cut off at the token limit before an answer
    GOLD_UNPARSEABLE = "gold_unparseable"  # the reference answer is at fault, not the response
    TIMEOUT = "timeout"  # the judgement of this text exceeded its time or memory
    ERROR = "error"  # the judge raised an exception: a bug of the judge


@dataclass(frozen=True)
class Judgement:
    """One verdict with its evidence.

    Attributes:
        verdict: the outcome.
        extracted: the answer that was found in the response, or None.
        rule: the name of the rule that decided, for example "box/number".
    """

    verdict: Verdict
    extracted: str | None
    rule: str


class MathJudgeError(Exception):
    """A setting, a file or a judge cannot be used. The message names it and says what to do."""
