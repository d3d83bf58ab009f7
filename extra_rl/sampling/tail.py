"""The long tail of sampling: how much of its time the last rollouts take."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import accumulate

from extra_rl.run.records import OPENING_SECONDS, TAIL_SHARE
from extra_rl.run.stage import Context


class TailClock:
    """Notes when rollouts end, as a sampler reports it, and hands the report on."""

    def __init__(
        self, advance: Callable[[int], object] = lambda n: None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._advance, self._clock = advance, clock
        self._calls: list[tuple[float, list[tuple[float, int]]]] = []
        self._opening = 0.0

    def opening(self) -> None:
        """A sampler is opened now: weights loaded, an engine started or given them, the probe."""
        self._opening -= self._clock()

    def opened(self) -> None:
        """It is ready."""
        self._opening += self._clock()

    @property
    def opening_seconds(self) -> float:
        """How long samplers took to be ready."""
        return self._opening

    def start(self) -> None:
        """A call of the sampler starts now; the time before it, such as that of loading a model, does not count."""
        self._calls.append((self._clock(), []))

    def ended(self, count: int) -> None:
        """So many rollouts have ended since the last report."""
        if count:
            self._calls[-1][1].append((self._clock(), count))
        self._advance(count)

    def share(self) -> float | None:
        """(last end - end of the first 90 %) / (last end - start), each summed over the calls; in 0..1.

        The end of the first 90 % is the report by which at least so many had ended. What is dropped never ends and does
        not count. None where nothing ended, or no time passed. Source: our decision.
        """
        spans = [_spans(start, ends) for start, ends in self._calls if ends]
        whole = sum(span for _, span in spans)
        return sum(tail for tail, _ in spans) / whole if whole > 0 else None


def report_tail(clock: TailClock, context: Context, what: str) -> None:
    """Into the stage's record: how long the sampler took to be ready and, where something ended, the share, which is
    also a line of its log."""
    context.figures[OPENING_SECONDS] = clock.opening_seconds
    share = clock.share()
    if share is not None:
        context.figures[TAIL_SHARE] = share
        context.console.note(f"the last 10 % of the {what} took {share:.0%} of the time of sampling")


def _spans(start: float, ends: list[tuple[float, int]]) -> tuple[float, float]:
    """Seconds of the tail and of the whole, of one call."""
    ended = list(accumulate(count for _, count in ends))
    most = next(at for (at, _), done in zip(ends, ended, strict=True) if 10 * done >= 9 * ended[-1])
    return ends[-1][0] - most, ends[-1][0] - start
