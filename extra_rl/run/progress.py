"""Output of a stage: lines on the terminal and in its log, and progress with the time left.

Several stages run at once and share one terminal, so progress is a line every few seconds instead of a bar.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

STARTED = "== started "
"""How the line begins that a stage writes into its log when it starts."""


def started_line(when: str, process: int, host: str) -> str:
    """Return the first line of a stage's run in its log. A log has one for each time that the stage was started."""
    return f"{STARTED}{when}, process {process} on {host} =="


class Console:
    """Writes each line to standard output and, where there is one, to the log."""

    def __init__(self, log: Path | None) -> None:
        self._log = log
        self._handle = None
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
            self._handle = log.open("a", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle is None:
            return
        if error is None:
            self._handle.close()
            return
        with suppress(OSError):  # on a full disk the stage's own error is the one to show
            self._handle.write(f"{kind.__name__ if kind else 'error'}: {error}\n")
        with suppress(OSError):
            self._handle.close()

    def say(self, line: str) -> None:
        """Write a line to the terminal and to the log."""
        print(line, flush=True)
        self.note(line)

    def note(self, line: str) -> None:
        """Write a line to the log only."""
        if self._handle is not None:
            self._handle.write(line + "\n")
            self._handle.flush()


class Progress:
    """Counts finished units of work, and reports share and time left every `interval` seconds."""

    def __init__(self, console: Console, total: int, unit: str, interval: float = 10.0) -> None:
        self._console, self._total, self._unit, self._interval = console, total, unit, interval
        self._done = 0
        self._start = self._last = time.monotonic()

    def update(self, done: int = 1, **figures: float) -> None:
        """Add `done` finished units. figures: values such as the loss, shown if a line is due now."""
        self._done += done
        now = time.monotonic()
        if now - self._last < self._interval:
            return
        self._last = now
        left = (now - self._start) / max(self._done, 1) * (self._total - self._done)
        shown = "".join(f", {name} {value:.3g}" for name, value in figures.items())
        self._console.say(
            f"  {self._unit} {self._done}/{self._total} ({self._done / max(self._total, 1):.0%}){shown}, "
            f"{duration(left)} left"
        )


def duration(seconds: float) -> str:
    """`1h02m`, `3m05s` or `12s`."""
    whole = max(0, round(seconds))
    if whole >= 3600:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 60}m{whole % 60:02d}s" if whole >= 60 else f"{whole}s"
