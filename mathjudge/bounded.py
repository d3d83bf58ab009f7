"""Judging untrusted text within hard limits: killable worker processes, one deadline per row.

Model text can make any parser loop, recurse or allocate without end, inside C code where no Python signal is
delivered. So each judgement runs in a worker process that can be killed:

- time: a kernel timer counts the CPU time of the row and ends the process when it runs out (SIGPROF, whose default is
  death: no Python handler, so C code cannot delay it, and a worker whose caller has died cannot spin for ever). The
  row is `timeout`, the rest of its chunk goes back to the queue, the worker's spare takes over (`bounded_worker`).
  CPU time and not wall clock, because a busy machine must not turn right answers into timeouts; a worker that sleeps
  instead is killed by the caller after WALL_FACTOR times the limit.
- memory: RLIMIT_AS in the worker; a row that exceeds it is `timeout` with the rule "memory".
- length: of a response of more than `max_chars` characters a worker sees the end only.

Workers are forked from a fork server, a fresh process that has imported the heavy modules once: callers hold threads
(torch, polars) and must not be forked, and a worker starts in milliseconds, not in the second that sympy takes.
Rows travel in chunks and each verdict comes back at once, so a hang costs its own timeout and nothing else.
Source: our decision. Measured against pebble.ProcessPool (README.md): there a replaced worker stalls the
queue for 0.1 s and more, and starts cold, which a batch with one hang in a hundred rows cannot afford.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from types import ModuleType
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

from mathjudge.bounded_worker import Lost, work
from mathjudge.errors import MathJudgeError
from mathjudge.verdict import Judgement, Verdict

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

START_TIMEOUT_S = 120.0
GOODBYE_S = 5.0
WALL_FACTOR = 20.0  # a machine that many processes share gives each a small part of a core
MAX_CHUNK = 64
WARM_ROWS = 1000
"""Batches of at least so many rows get workers whose parser is warm: that costs 1.5 CPU-seconds, a row about 2 ms."""


class Judgeable(Protocol):
    """What can be judged: anything picklable that carries the texts of gold and response."""

    @property
    def gold(self) -> str: ...

    @property
    def response(self) -> str: ...

    @property
    def truncated(self) -> bool: ...

    def tail(self, chars: int) -> Self: ...


ItemT = TypeVar("ItemT", bound=Judgeable)


@dataclass(frozen=True)
class Item:
    """One row to judge. truncated: the response was cut off at the token limit.

    relative_tolerance, absolute_tolerance: the error that this problem allows in a number (0: none).
    """

    gold: str
    response: str
    truncated: bool = False
    relative_tolerance: float = 0.0
    absolute_tolerance: float = 0.0

    def tail(self, chars: int) -> Item:
        """The end of the response, in which only a box counts, as in one that was cut off."""
        return replace(self, response=self.response[-chars:], truncated=True)


def judge_all(
    judge: Callable[[ItemT], Judgement],
    items: Sequence[ItemT],
    *,
    workers: int = 1,
    timeout_s: float = 5.0,
    memory_mb: int = 1024,
    max_chars: int = 1_000_000,
    progress: Callable[[int], object] | None = None,
    preload: str | None = None,
) -> list[Judgement]:
    """The judgement of each item, in the items' order; equal on every run, apart from rows at the time limit.

    judge: any picklable callable (a function of a module, or an instance of one of its classes).
    judge must be defined in a module (workers do not import the caller's script). Its method `warm_up`, where it has
    one, is called once in each new worker before any row, and not timed.
    workers: worker processes; throughput scales with them. timeout_s: CPU seconds per row.
    memory_mb: address space of a worker in MiB, the interpreter and its libraries included.
    progress: called with 1 for each finished row. preload: module that the fork server imports if it starts now, so
    that workers have it; None: the parser of mathematics.

    A row that exceeds its time or memory, or that kills its worker, is `timeout` (rules "time", "memory", "died"); an
    exception of `judge` is `error` (rule: its class). Of a response longer than `max_chars` only the last `max_chars`
    characters are sent, as those of a response that was cut off; without an answer there it is `no_answer` (rule
    "too_long"). A gold as long is `gold_unparseable`, "too_long".

    Raises MathJudgeError where a limit is not positive, a worker cannot start (a judge that cannot be pickled), or the
    judge returns anything but a Judgement.
    """
    if workers < 1 or timeout_s <= 0 or memory_mb < 1 or max_chars < 1:
        raise MathJudgeError("judge_all: workers, timeout_s, memory_mb and max_chars must be positive.")
    long = {n for n, item in enumerate(items) if len(item.response) > max_chars}
    bounded = [item.tail(max_chars) if n in long else item for n, item in enumerate(items)]
    batch = _Batch(judge, bounded, timeout_s, memory_mb, progress or (lambda _: None), preload)
    batch.enqueue([n for n, item in enumerate(items) if not batch.refuse(n, len(item.gold) > max_chars)], workers)
    batch.run(workers)
    judged = batch.judged()
    return [
        Judgement(Verdict.NO_ANSWER, None, "too_long")
        if n in long and judgement.verdict is Verdict.TRUNCATED and not items[n].truncated
        else judgement
        for n, judgement in enumerate(judged)
    ]


@dataclass
class _Worker:
    """A worker process, its pipe, and the rows it still owes (the first is the one it works on)."""

    process: BaseProcess
    pipe: Connection
    deadline: float
    ready: bool = False
    rows: deque[int] = field(default_factory=deque)

    def dismiss(self) -> None:
        """Let the worker and its spares end by themselves: they do when the pipe closes."""
        self.pipe.close()
        self.process.join(GOODBYE_S)
        self.kill()

    def kill(self) -> None:
        """End the worker's whole group at once."""
        self.pipe.close()
        if self.process.is_alive():
            os.killpg(self.process.pid or 0, signal.SIGKILL)
            self.process.join()


class _Batch:
    """The state of one `judge_all`: what is queued, who works on what, what is known."""

    def __init__(
        self,
        judge: Callable[[ItemT], Judgement],
        items: Sequence[ItemT],
        timeout_s: float,
        memory_mb: int,
        progress: Callable[[int], object],
        preload: str | None,
    ) -> None:
        self.judge, self.items, self.progress = judge, items, progress
        self.timeout_s, self.memory_mb = timeout_s, memory_mb
        self.judgements: list[Judgement | None] = [None] * len(items)
        self.queue: deque[list[int]] = deque()
        self.crew: list[_Worker] = []
        self.context = multiprocessing.get_context("forkserver")
        warm = "mathjudge.warm" if len(items) >= WARM_ROWS else "mathjudge.warm_imports"
        self.context.set_forkserver_preload([preload or warm])

    def refuse(self, row: int, too_long: bool) -> bool:
        if too_long:
            self.finish(row, Judgement(Verdict.GOLD_UNPARSEABLE, None, "too_long"))
        return too_long

    def enqueue(self, rows: list[int], workers: int) -> None:
        """Chunks small enough that all workers finish at about the same time, large enough to keep pipes full."""
        size = max(1, min(MAX_CHUNK, len(rows) // (4 * workers)))
        self.queue.extend(rows[n : n + size] for n in range(0, len(rows), size))

    def finish(self, row: int, judgement: Judgement) -> None:
        self.judgements[row] = judgement
        self.progress(1)

    def judged(self) -> list[Judgement]:
        """Return all judgements, in the order of the rows. AssertionError where a row has none."""
        found = [judgement for judgement in self.judgements if judgement is not None]
        assert len(found) == len(self.judgements), f"{len(self.judgements) - len(found)} rows were not judged"
        return found

    def run(self, workers: int) -> None:
        try:
            self.crew = [self.hire() for _ in range(min(workers, len(self.queue)))]
            while self.crew:
                seconds = min(worker.deadline for worker in self.crew) - time.monotonic()
                heard = wait([worker.pipe for worker in self.crew], timeout=max(0.0, seconds))
                now = time.monotonic()
                self.crew = [kept for worker in self.crew if (kept := self.attend(worker, worker.pipe in heard, now))]
        finally:
            for worker in self.crew:
                worker.kill()

    def attend(self, worker: _Worker, heard: bool, now: float) -> _Worker | None:
        """Serve one worker: take its verdict, or replace it; None when there is nothing left to do for it."""
        if heard:
            try:
                message = worker.pipe.recv()
            except (EOFError, ConnectionResetError):
                return self.replace(worker, "died")
            if isinstance(message, Lost):
                self.blame(worker, message.rule)
            elif worker.ready:
                row = worker.rows.popleft()
                if not isinstance(message, Judgement):
                    raise MathJudgeError(
                        f"The judge returned {type(message).__name__} for row {row}; it must return a Judgement."
                    )
                self.finish(row, message)
            worker.ready = True
            worker.deadline = now + WALL_FACTOR * self.timeout_s
            return self.supply(worker)
        return self.replace(worker, "time") if now >= worker.deadline else worker

    def supply(self, worker: _Worker) -> _Worker | None:
        if worker.rows:
            return worker
        if not self.queue:
            worker.dismiss()
            return None
        chunk = self.queue.popleft()
        try:
            worker.pipe.send([self.items[row] for row in chunk])
        except BrokenPipeError:  # died between two chunks: no row is to blame
            self.queue.appendleft(chunk)
            return self.replace(worker, "died")
        worker.rows.extend(chunk)
        return worker

    def blame(self, worker: _Worker, rule: str) -> None:
        """The row that a worker was at is the one that killed it; its other rows go back to the queue."""
        if worker.rows:
            self.finish(worker.rows.popleft(), Judgement(Verdict.TIMEOUT, None, rule))
        if worker.rows:
            self.queue.appendleft(list(worker.rows))
            worker.rows.clear()

    def replace(self, worker: _Worker, rule: str) -> _Worker | None:
        """Kill a worker that sleeps, or clear up after one that died with its spares, and hire another."""
        worker.kill()
        if not worker.ready:
            raise MathJudgeError(
                "A verifier worker did not start. Its judge must be a function or class of an importable module, "
                f"and fit into memory_mb={self.memory_mb}; the worker's message is on stderr."
            )
        self.blame(worker, rule)
        return self.hire() if self.queue else None

    def hire(self) -> _Worker:
        ours, theirs = self.context.Pipe()
        process = self.context.Process(
            target=work, args=(self.judge, theirs, self.timeout_s, self.memory_mb), daemon=True
        )
        try:
            with _without_main():
                process.start()
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise MathJudgeError(
                f"The judge cannot be pickled: {error}. Use a function or class of a module."
            ) from error
        theirs.close()
        return _Worker(process, ours, deadline=time.monotonic() + START_TIMEOUT_S)


@contextmanager
def _without_main() -> Iterator[None]:
    """Keep multiprocessing from importing the caller's script in each worker.

    Workers need the judge's module only. The script may import torch, which would cost every replaced worker
    seconds, or may lack a main guard and run a second time.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
