"""When two samples of a problem give the same answer: what majority voting counts (docs/evaluation.md)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from extra_rl.algorithms.majority import NO_VOTE, RIGHT
from mathjudge.normalise import clean, squash
from mathjudge.numbers import read_number

MAX_CHARS = 300
"""A longer answer is compared as it stands: model text is untrusted, and normalising is not free."""


def answer_key(text: str) -> str:
    """Equal for answers that are spelled alike: the exact value of a plain number, else the normalised text."""
    if len(text) > MAX_CHARS:
        return text
    cleaned = clean(text)
    number = read_number(cleaned)
    return str(number.value) if number else squash(cleaned)


def votes_of(right: Sequence[bool], answers: Sequence[str | None], keys: dict[str, str]) -> npt.NDArray[np.int64]:
    """(N,) the votes of one problem's samples, as `extra_rl.algorithms.majority` counts them.

    right: judged to be the gold, so all of these are one answer, by the verifier's own equality. answers: as extracted;
    None casts no vote. Other answers are equal when their `answer_key` is. keys: answer_key by text, filled on the way.
    """
    numbers: dict[str, int] = {}
    votes = np.full(len(answers), NO_VOTE, dtype=np.int64)
    for i, (is_right, answer) in enumerate(zip(right, answers, strict=True)):
        if is_right:
            votes[i] = RIGHT
        elif answer is not None:
            key = keys.get(answer)
            if key is None:
                key = keys[answer] = answer_key(answer)
            votes[i] = numbers.setdefault(key, len(numbers) + 1)
    return votes
