"""Processes that the calling process has started, directly or not: becoming their reaper, and killing all of them.

A child whose parent has ended becomes a child of its nearest ancestor that is a reaper, even from another session. So a
reaper can find everything that was started below it. Only the standard library is imported: `sandbox_guard` runs
without this package.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from contextlib import suppress

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
SWEEP_S = 10.0
"""Longest time in seconds for killing descendants that start others."""


def become_reaper() -> None:
    """Make this process the parent of all its descendants whose parent has ended. Children do not inherit this."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent(parent: int, number: int = signal.SIGKILL) -> None:
    """Let the kernel send a signal to this process when its parent ends. If it has ended already, exit at once.

    parent: its process id. number: of the signal.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def kill_descendants() -> int:
    """Kill and reap all descendants of this process, which must be a reaper; return how many were reaped.

    Children of killed processes become children of this one, so this is repeated until there are none. Process groups
    are killed as a whole first, because no process of a killed group can start another one.
    """
    own_group, reaped, deadline = os.getpgid(0), 0, time.monotonic() + SWEEP_S
    while time.monotonic() < deadline:
        found = children_of(os.getpid())
        if not found:
            return reaped
        for group in {_group(pid) for pid in found} - {own_group, 0}:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
                reaped += 1
    return reaped


def children_of(parent: int) -> list[int]:
    """Return the process ids of the direct children of a process, zombies included."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError, IndexError, ValueError), open(f"/proc/{name}/stat", "rb") as file:
                if int(file.read().rpartition(b")")[2].split()[1]) == parent:
                    found.append(int(name))
    return found


def has_children() -> bool:
    """Return whether this process has a child; cheaper than `children_of`, and reaps nothing."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except OSError:
        return 0
