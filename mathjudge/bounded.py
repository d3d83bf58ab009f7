"""Judging untrusted text within hard limits: killable worker processes, one deadline per row.

Model text can make any parser loop, recurse or allocate without end, inside C code where no Python signal is
delivered. So each judgement runs in a worker process that can be killed:

- time: a kernel timer counts the CPU time of the row and ends the process when it runs out. Its signal is SIGPROF
  without a Python handler, so C code cannot delay it, and a worker whose caller has died also ends. The row is
  `timeout`, the rest of its chunk returns to the queue, and the worker's spare takes over (`bounded_worker`). CPU time
  is counted and not wall-clock time, because a busy machine must not turn correct answers into timeouts. A worker that
  sleeps is killed by the caller after WALL_FACTOR times the limit.
- memory: RLIMIT_AS in the worker; a row that exceeds it is `timeout` with the rule "memory".
- length: if a response has more than `max_chars` characters, a worker reads its end only.

Workers are forked from a fork server, a fresh process that has imported the heavy modules once. The caller holds
threads (torch, polars) and must not be forked, and a forked worker starts in milliseconds instead of the second that
SymPy takes. Rows are sent in chunks and each verdict returns at once, so a hang costs only its own timeout.
Source: our decision. It was measured against pebble.ProcessPool (README.md), where a replaced worker stalls the queue
for 0.1 s and more, and starts cold.
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

from mathjudge.bounded_worker import ProcessDied, work
from mathjudge.verdict import Judgement, MathJudgeError, Verdict

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

START_TIMEOUT_S = 120.0
CLOSE_TIMEOUT_S = 5.0
WALL_FACTOR = 20.0  # a machine that many processes share gives each a small part of a core
MAX_CHUNK = 64
WARM_ROWS = 1000
"""Batches of at least this many rows get workers with a warm parser: warming costs 1.5 CPU seconds, a row 2 ms."""


class Judgeable(Protocol):
    """What can be judged: anything picklable with a reference answer (`gold`) and a response, both text."""

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
    """One row to judge.

    Attributes:
        gold: the reference answer.
        response: the model's text, or a bare answer.
        truncated: the response was cut off at the token limit.
        relative_tolerance, absolute_tolerance: the error that this problem allows in a number (0: none).
    """

    gold: str
    response: str
    truncated: bool = False
    relative_tolerance: float = 0.0
    absolute_tolerance: float = 0.0

    def tail(self, chars: int) -> Item:
        """Return the item with only the end of its response, in which only a box counts, as in one that was cut off."""
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
    """Return the judgement of each item, in the items' order; equal on every run, apart from rows at the time limit.

    A row that exceeds its time or memory, or that kills its worker, is `timeout` (rules "time", "memory", "died"). An
    exception of `judge` is `error` (rule: its class). If a response is longer than `max_chars`, only its last
    `max_chars` characters are judged, as those of a response that was cut off; without an answer there it is
    `no_answer` (rule "too_long"). A reference answer as long is `gold_unparseable` (rule "too_long").

    Args:
        judge: a picklable callable that is defined in a module: a function, or an instance of a class. Workers do not
            import the caller's script. If it has a method `warm_up`, each new worker calls it once, outside any limit.
        items: the rows.
        workers: number of worker processes.
        timeout_s: CPU seconds per row.
        memory_mb: address space of a worker in MiB, including the interpreter and its libraries.
        max_chars: characters of the longest response that is read as a whole.
        progress: called with 1 for each finished row.
        preload: module that the fork server imports if this call starts it; None: the parser of mathematics.

    Raises:
        MathJudgeError: a limit is not positive, a worker cannot start (a judge that cannot be pickled), or the judge
            returns anything but a Judgement.
    """
    if workers < 1 or timeout_s <= 0 or memory_mb < 1 or max_chars < 1:
        raise MathJudgeError("judge_all: workers, timeout_s, memory_mb and max_chars must be positive.")
    long = {n for n, item in enumerate(items) if len(item.response) > max_chars}
    bounded = [item.tail(max_chars) if n in long else item for n, item in enumerate(items)]
    batch = _Batch(judge, bounded, timeout_s, memory_mb, progress or (lambda _: None), preload)
    too_long = {n for n, item in enumerate(items) if len(item.gold) > max_chars}
    for n in sorted(too_long):
        batch.finish(n, Judgement(Verdict.GOLD_UNPARSEABLE, None, "too_long"))
    batch.enqueue([n for n in range(len(items)) if n not in too_long], workers)
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
    """A worker process, its pipe, and the rows that it has not answered yet; it is judging the first of them."""

    process: BaseProcess
    pipe: Connection
    deadline: float
    ready: bool = False
    rows: deque[int] = field(default_factory=deque)

    def close(self) -> None:
        """Let the worker and its spares end by themselves, which they do when the pipe closes."""
        self.pipe.close()
        self.process.join(CLOSE_TIMEOUT_S)
        self.kill()

    def kill(self) -> None:
        """End the worker and its spares at once."""
        self.pipe.close()
        if self.process.is_alive():
            os.killpg(self.process.pid or 0, signal.SIGKILL)
            self.process.join()


class _Batch:
    """The state of one `judge_all`: queued chunks, running workers, and the judgements so far."""

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
        self.workers: list[_Worker] = []
        self.context = multiprocessing.get_context("forkserver")
        warm = "mathjudge.warm" if len(items) >= WARM_ROWS else "mathjudge.warm_imports"
        self.context.set_forkserver_preload([preload or warm])

    def enqueue(self, rows: list[int], workers: int) -> None:
        """Queue chunks: small enough that all workers finish at about the same time, large enough to fill the pipes."""
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
            self.workers = [self.start_worker() for _ in range(min(workers, len(self.queue)))]
            while self.workers:
                seconds = min(worker.deadline for worker in self.workers) - time.monotonic()
                ready = wait([worker.pipe for worker in self.workers], timeout=max(0.0, seconds))
                now = time.monotonic()
                served = [self.serve(worker, worker.pipe in ready, now) for worker in self.workers]
                self.workers = [worker for worker in served if worker]
        finally:
            for worker in self.workers:
                worker.kill()

    def serve(self, worker: _Worker, has_message: bool, now: float) -> _Worker | None:
        """Take a worker's message, or replace it after its deadline. Return None if no rows are left for it."""
        if has_message:
            try:
                message = worker.pipe.recv()
            except (EOFError, ConnectionResetError):
                return self.replace(worker, "died")
            if isinstance(message, ProcessDied):
                self.fail_current_row(worker, message.rule)
            elif worker.ready:
                row = worker.rows.popleft()
                if not isinstance(message, Judgement):
                    raise MathJudgeError(
                        f"The judge returned {type(message).__name__} for row {row}; it must return a Judgement."
                    )
                self.finish(row, message)
            worker.ready = True
            worker.deadline = now + WALL_FACTOR * self.timeout_s
            return self.send_chunk(worker)
        return self.replace(worker, "time") if now >= worker.deadline else worker

    def send_chunk(self, worker: _Worker) -> _Worker | None:
        """Send the next chunk to an idle worker. Return None, with the worker closed, if none is left."""
        if worker.rows:
            return worker
        if not self.queue:
            worker.close()
            return None
        chunk = self.queue.popleft()
        try:
            worker.pipe.send([self.items[row] for row in chunk])
        except BrokenPipeError:  # it died between two chunks: no row is the cause
            self.queue.appendleft(chunk)
            return self.replace(worker, "died")
        worker.rows.extend(chunk)
        return worker

    def fail_current_row(self, worker: _Worker, rule: str) -> None:
        """Give the row that a worker was judging when it died the verdict `timeout`; queue its other rows again."""
        if worker.rows:
            self.finish(worker.rows.popleft(), Judgement(Verdict.TIMEOUT, None, rule))
        if worker.rows:
            self.queue.appendleft(list(worker.rows))
            worker.rows.clear()

    def replace(self, worker: _Worker, rule: str) -> _Worker | None:
        """Kill a worker that sleeps, or clean up after one that died with its spares, and start another."""
        worker.kill()
        if not worker.ready:
            raise MathJudgeError(
                "A verifier worker did not start. Its judge must be a function or class of an importable module, "
                f"and fit into memory_mb={self.memory_mb}; the worker's message is on stderr."
            )
        self.fail_current_row(worker, rule)
        return self.start_worker() if self.queue else None

    def start_worker(self) -> _Worker:
        """Start a worker process. MathJudgeError if the judge cannot be pickled."""
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
