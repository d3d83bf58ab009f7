"""Judging in the killable processes of `mathjudge`, within the limits of the section `verifier`.

`mathjudge` is independent of this library and raises its own error, which is converted here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import mathjudge
from extra_rl.errors import ExtraError, InputError
from extra_rl.verdict import Judgement

if TYPE_CHECKING:
    from extra_rl.config.sections import VerifierConfig
    from mathjudge.bounded import Judgeable

ItemT = TypeVar("ItemT", bound="Judgeable")


def judge_in_pool(
    judge: Callable[[ItemT], Judgement],
    items: Sequence[ItemT],
    verifier: VerifierConfig,
    *,
    progress: Callable[[int], object] | None = None,
    preload: str | None = None,
) -> list[Judgement]:
    """Return the judgement of each item, in order, within the limits of the section `verifier`.

    Args:
        judge: a picklable function or object of an importable module; it runs in the worker processes.
        items: anything picklable with the texts `gold` and `response` (`mathjudge.bounded.Judgeable`).
        progress: called with 1 for each finished item.
        preload: module that the fork server imports first; None: the mathematics parser.

    Raises InputError if the workers cannot start.
    """
    with mathjudge_errors_as(InputError):
        return mathjudge.judge_all(
            judge,
            items,
            workers=verifier.workers,
            timeout_s=verifier.timeout_s,
            memory_mb=verifier.memory_mb,
            max_chars=verifier.max_chars,
            progress=progress,
            preload=preload,
        )


@contextmanager
def mathjudge_errors_as(kind: type[ExtraError]) -> Iterator[None]:
    """Convert an error of `mathjudge` to an error of this library with the same message."""
    try:
        yield
    except mathjudge.MathJudgeError as error:
        raise kind(str(error)) from error
