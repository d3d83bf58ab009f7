"""Ends a command of a run, such as a cold stage, when the run itself has ended, also by kill -9.

A job of the warm worker ends with the worker, and so with the run. A cold command is a child of a shell of Snakemake,
which kill -9 of Snakemake does not end: it would go on writing while the same run is started again. So the run names
its process in the environment, and each cold command watches that process. Linux only; elsewhere nothing is watched.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from contextlib import suppress

RUN_VARIABLE = "EXTRA_RUN"
"""Environment variable: process, start time and PID namespace of the run (Snakemake), by `this_process`."""

ENDED = 1
"""Exit code of a command whose run has ended."""


def this_process() -> str:
    """Name this process for `end_with`; "" where the system has no /proc."""
    try:
        return f"{os.getpid()} {_start_of(os.getpid())} {_namespace()}"
    except OSError:
        return ""


def end_with(named: str | None) -> None:
    """End this process, and its descendants in the same session, as soon as the named process has ended.

    If it has ended already, this raises SystemExit. A process on another machine or in another container cannot be
    watched, and nothing happens.

    named: value of RUN_VARIABLE; None or "" outside of a run.
    """
    number, _, rest = (named or "").partition(" ")
    start, _, namespace = rest.partition(" ")
    try:
        if not number or namespace != _namespace():
            return
        descriptor = os.pidfd_open(int(number))
        alive = _start_of(int(number)) == start
    except (ProcessLookupError, FileNotFoundError):
        alive = False
    except (OSError, AttributeError):  # an old kernel, or another system
        return
    if not alive:
        print(f"extra: the run that started this command (process {number}) has ended, so it ends too", file=sys.stderr)
        raise SystemExit(ENDED)
    threading.Thread(target=_watch, args=(descriptor,), name="tether", daemon=True).start()


def _watch(descriptor: int) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    poll.poll()
    session = os.getsid(0)
    for process in _descendants(os.getpid()):
        with suppress(OSError):  # it has ended
            if os.getsid(process) == session:
                os.kill(process, signal.SIGKILL)
    os._exit(ENDED)


def _start_of(process: int) -> str:
    """When a process started, in ticks of the system's clock: it tells apart processes that had the same number."""
    with open(f"/proc/{process}/stat") as file:
        return file.read().rpartition(")")[2].split()[19]


def _namespace() -> str:
    """What process numbers refer to: the machine since it started, and its PID namespace."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')}"


def _descendants(process: int) -> list[int]:
    """Children, their children, and so on."""
    found = []
    for task in os.listdir(f"/proc/{process}/task"):
        with suppress(OSError), open(f"/proc/{process}/task/{task}/children") as file:
            for child in map(int, file.read().split()):
                with suppress(OSError):
                    found += [child, *_descendants(child)]
    return found
