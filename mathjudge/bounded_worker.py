"""The worker's side of `bounded`: it judges rows, keeps a spare copy of itself, and cannot outlive its limits.

A killed worker loses its caches: the parser's prediction tables and the parsed reference answers. A fresh one would
need three times the CPU time for its first rows. So a worker forks: the child judges, the parent waits as a spare. When
the child dies, the spare reports it and forks again, and only the caches since the last fork are lost. The span after
which the child becomes the next spare doubles while no child dies, and is reset after a death. Batches without hangs
leave a dozen sleeping processes, batches with many hangs MAX_SPARES; they share their memory.
"""

from __future__ import annotations

import gc
import math
import os
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from mathjudge.verdict import Judgement, Verdict

FIRST_SPAN_S = 0.25
MAX_SPARES = 24


@dataclass(frozen=True)
class ProcessDied:
    """The process that judged the current row is dead. rule: "time" (its timer ran out) or "died"."""

    rule: str


def work(judge: Callable[[Any], Judgement], pipe: Connection, timeout_s: float, memory_mb: int) -> None:
    """Warm up, report ready, then answer each chunk (a list of items) with a message an item, until the pipe closes."""
    os.setpgid(0, 0)  # one group for the worker and its spares: the caller can kill them all
    limit = memory_mb * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    warm_up = getattr(judge, "warm_up", None)
    if warm_up is not None:
        warm_up()
    try:
        pipe.send(None)
        _serve(judge, pipe, timeout_s)
    except (EOFError, OSError):  # the caller has finished or died
        return


def _serve(judge: Callable[[Any], Judgement], pipe: Connection, timeout_s: float) -> None:
    span, spares = FIRST_SPAN_S, 1
    while True:
        gc.freeze()  # a collection in the child would copy the shared pages
        child = os.fork()
        if child:
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if status == 0:
                return
            pipe.send(ProcessDied("time" if status == -signal.SIGPROF else "died"))
            span = FIRST_SPAN_S
        else:
            _judge_for(judge, pipe, timeout_s, span if spares < MAX_SPARES else math.inf)
            span, spares = 2 * span, spares + 1


def _judge_for(judge: Callable[[Any], Judgement], pipe: Connection, timeout_s: float, span: float) -> None:
    """Judge whole chunks for `span` CPU seconds; the process ends here when the pipe closes."""
    began = time.process_time()
    try:
        while time.process_time() - began < span:
            for item in pipe.recv():
                signal.setitimer(signal.ITIMER_PROF, timeout_s)
                judgement = _judge_one(judge, item)
                signal.setitimer(signal.ITIMER_PROF, 0)
                pipe.send(judgement)
    except (EOFError, OSError):
        os._exit(0)


def _judge_one(judge: Callable[[Any], Judgement], item: Any) -> Judgement:
    try:
        return judge(item)
    except MemoryError:
        return Judgement(Verdict.TIMEOUT, None, "memory")
    except Exception as error:  # a bug of the judge: reported as `error`, never a silent zero
        return Judgement(Verdict.ERROR, None, type(error).__name__)
