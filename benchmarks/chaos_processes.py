"""The processes of a run of benchmarks/chaos.py: which are which, and which get the signal."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

TARGETS = ("group", "snakemake", "worker", "job", "client", "everything")
ENGINE, ENGINE_MODULES = "engine", ("extra_rl.sampling.vllm.keeper", "vllm.entrypoints.launchers.api_server.entry")
MARK = "CHAOS_RUN"
"""Environment variable of all processes of a run, by which its orphans are found."""


def hit_by(target: str, snakemake: psutil.Process, family: Sequence[psutil.Process]) -> list[psutil.Process]:
    """The living processes that a kill of `target` hits, in the order in which they get the signal.

    Args:
        target: "everything" is all processes of the run, "group" what Ctrl-C on a terminal reaches.
        snakemake: the process of the command.
        family: its living descendants.
    """
    if target == "snakemake":
        return [snakemake]
    if target == "group":
        return [snakemake, *(p for p in family if group_of(p) == snakemake.pid)]
    if target == "everything":
        return [snakemake, *family]
    kinds = [p for p in family if kind_of(p, snakemake.pid) == target]
    return kinds[-1:]  # the youngest: jobs and clients that were started last


def kind_of(process: psutil.Process, snakemake: int) -> str:
    """What a process of a run is: worker, job, client, engine, or "" for shells and all others."""
    words = words_of(process)
    if any(module in words for module in ENGINE_MODULES):
        return ENGINE
    if "extra_rl.worker" in words:
        return "worker" if process.ppid() == snakemake else "job"
    return "client" if words[1:3] == ["-m", "stages"] else ""


def words_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def group_of(process: psutil.Process) -> int:
    try:
        return os.getpgid(process.pid)
    except ProcessLookupError:
        return -1


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def survivors(processes: Sequence[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait until all have ended, at most so long; return those that have not."""
    deadline = time.monotonic() + seconds
    alive = [process for process in processes if is_alive(process)]
    while alive and time.monotonic() < deadline:
        time.sleep(0.05)
        alive = [process for process in alive if is_alive(process)]
    return alive


def deliver(processes: Iterable[psutil.Process], how: signal.Signals) -> bool:
    """Send a signal to each; return whether one of them was alive."""
    hit = False
    for process in processes:
        with suppress(psutil.Error):
            if is_alive(process):
                process.send_signal(how)
                hit = True
    return hit


def marked(mark: str) -> list[psutil.Process]:
    """All living processes with this MARK in their environment, whoever their parent is now."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == mark and is_alive(process):
                found.append(process)
    return found


def kill_all(processes: Iterable[psutil.Process]) -> None:
    deliver(processes, signal.SIGKILL)


def described(processes: Iterable[psutil.Process]) -> str:
    return "; ".join(f"{p.pid} {' '.join(words_of(p))[:120]}" for p in processes)


def stacks(pid: int) -> str:
    """What a process that hangs waits for, as far as the kernel tells: state and system call of each thread."""
    found = []
    for task in sorted(Path(f"/proc/{pid}/task").glob("*")):
        with suppress(OSError):
            found.append(f"{(task / 'comm').read_text().strip()} {(task / 'wchan').read_text()}")
    return "; ".join(found)
