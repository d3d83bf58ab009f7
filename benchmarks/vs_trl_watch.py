"""CPU-seconds and memory of all processes below this one, over time. For benchmarks/vs_trl.py."""

from __future__ import annotations

import bisect
import ctypes
import os
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType

import psutil

CPU_EVERY, MEMORY_EVERY = 0.1, 0.5
"""Seconds. Memory is dearer to ask for: the kernel walks every page of a process."""

PR_SET_CHILD_SUBREAPER = 36


@dataclass
class Watch:
    """A thread that looks at the processes below this one, but not at `but` and what is below that.

    times (of the clock), cpu_s: what they have used since they began, those included that have ended. peak_mb: largest
    sum of their proportional set sizes, in which a page that n processes share counts 1/n for each.

    A process whose parent has ended falls to this one, and stays as a zombie until the watch ends: what a verifier's
    fork server has used would be lost otherwise, since nobody in the run waits for it.
    """

    but: int = 0
    times: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    peak_mb: float = 0.0

    def __enter__(self) -> Watch:
        adopt(True)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        adopt(False)
        for child in psutil.Process().children():
            if child.pid != self.but and child.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(child.pid, os.WNOHANG)

    def cpu_at(self, moment: float) -> float:
        """CPU-seconds used until then, on a straight line between two looks. Outside of all looks: at the nearest."""
        place = bisect.bisect_left(self.times, moment)
        if place in (0, len(self.times)):
            return self.cpu_s[min(place, len(self.times) - 1)]
        before, after = self.times[place - 1], self.times[place]
        share = (moment - before) / (after - before)
        return self.cpu_s[place - 1] + share * (self.cpu_s[place] - self.cpu_s[place - 1])

    def _run(self) -> None:
        own, last_memory = psutil.Process(), 0.0
        while not self._stop.is_set():
            processes = below(own, self.but)
            waited_for, at = own.cpu_times(), time.time()
            cpu = waited_for.children_user + waited_for.children_system + sum(map(cpu_of, processes))
            self.times.append(at)
            self.cpu_s.append(max(cpu, self.cpu_s[-1] if self.cpu_s else 0.0))
            if at - last_memory >= MEMORY_EVERY:
                last_memory = at
                self.peak_mb = max(self.peak_mb, sum(map(pss_mb, processes)))
            self._stop.wait(CPU_EVERY)


def adopt(orphans: bool) -> None:
    """Whether processes whose parent has ended fall to this process. Linux only."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(orphans), 0, 0, 0)


def below(process: psutil.Process, but: int) -> list[psutil.Process]:
    """All descendants, without `but` and its own."""
    try:
        everything = process.children(recursive=True)
        left_out = {but, *(child.pid for child in psutil.Process(but).children(recursive=True))} if but else set()
    except psutil.Error:
        return []
    return [one for one in everything if one.pid not in left_out]


def cpu_of(process: psutil.Process) -> float:
    """Of the process, and of its children that it has waited for; 0 where it is gone."""
    try:
        used = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(used.user + used.system + used.children_user + used.children_system)


def pss_mb(process: psutil.Process) -> float:
    try:
        return float(process.memory_full_info().pss) / 2**20
    except psutil.Error:
        return 0.0
