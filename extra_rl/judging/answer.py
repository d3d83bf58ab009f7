"""What every verifier is given: a response, and what it is judged by."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """A response and what it is judged by.

    problem: the problem's own text. finished: it ended by itself, it was not cut off. metadata: JSON of what else the
    task's verifier needs.

    relative_tolerance, absolute_tolerance: the error that this problem allows in a number (0: none). The larger of
    these and the policy's counts. Generated tasks have none.
    """

    problem: str
    gold: str
    response: str
    finished: bool
    relative_tolerance: float = 0.0
    absolute_tolerance: float = 0.0
    metadata: str | None = None
