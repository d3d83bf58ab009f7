"""One call of a user's function in its own process, within limits of time and of the size of its answer.

The process is a fork of the caller, so the function's module is already imported, and nothing that the call changes is
left for the next one: the answer depends on its arguments only. Whatever the call has started is killed with it.
Standard output and standard error are discarded. Memory is limited by the caller's RLIMIT_AS, which the fork inherits.
Source: our decision.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import NamedTuple

from extra_rl.judging.descendants import become_reaper, die_with_parent, has_children, kill_descendants

WALL_FACTOR = 4.0
"""Wall-clock limit as a multiple of the limit on CPU time: a shared machine gives a process a part of a core."""
HEADER = 8
MOST_BYTES = 1_000_000


class Outcome(NamedTuple):
    """The answer of a call, or why there is none: `time`, `memory`, `too much output`, or how its process ended."""

    answer: bytes | None
    fault: str


def call_isolated(function: Callable[[], bytes], timeout_s: float, close: Collection[int] = ()) -> Outcome:
    """Call a function in a new process and return its answer; never later than `WALL_FACTOR` times the limit.

    Args:
        function: is called without arguments. MemoryError is the fault `memory`; it must catch all other exceptions.
        timeout_s: limit on the CPU time of the process.
        close: file descriptors of the caller that the process does not inherit.
    """
    become_reaper()
    read, write = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _answer(function, timeout_s, parent, write, {read, *close} - {write})
    os.close(write)
    ended = os.pidfd_open(child)
    try:
        text = _read(read, ended, time.monotonic() + WALL_FACTOR * timeout_s)
    finally:
        os.close(read)
        os.close(ended)
        os.kill(child, signal.SIGKILL)  # not reaped yet, so the number is still its own
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if has_children():
            kill_descendants()
    if text is None:
        return Outcome(None, "time")
    if len(text) >= HEADER and len(text) == HEADER + int.from_bytes(text[:HEADER], "big"):
        return Outcome(text[HEADER:], "")
    if len(text) > MOST_BYTES:
        return Outcome(None, "too much output")
    if text:
        return Outcome(None, "its process wrote something that is no judgement")
    if status == -signal.SIGPROF:
        return Outcome(None, "time")
    if status == OUT_OF_MEMORY:
        return Outcome(None, "memory")
    return Outcome(None, f"its process ended with {'signal' if status < 0 else 'exit code'} {abs(status)}")


OUT_OF_MEMORY = 250
"""Exit code of the process whose call ran out of memory."""


def _answer(function: Callable[[], bytes], timeout_s: float, parent: int, write: int, close: Collection[int]) -> None:
    """Write the function's answer with its length, and end this process. It never returns."""
    code = 1
    try:
        here = os.getpid()
        os.setpgid(0, 0)
        die_with_parent(parent)
        for file in close:
            with suppress(OSError):  # the caller has closed it since
                os.close(file)
        nothing = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(nothing, standard)
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, timeout_s)
        answer = function()
        if os.getpid() == here:  # not a process that the function has forked
            rest = memoryview(len(answer).to_bytes(HEADER, "big") + answer)
            while rest:
                rest = rest[os.write(write, rest) :]
            code = 0
    except MemoryError:
        code = OUT_OF_MEMORY
    finally:
        os._exit(code)


def _read(pipe: int, ended: int, deadline: float) -> bytes | None:
    """Return what the process wrote, up to its whole answer or its end; None after the deadline."""
    text = bytearray()
    while len(text) < HEADER or len(text) < HEADER + int.from_bytes(text[:HEADER], "big"):
        seconds = deadline - time.monotonic()
        ready = select.select([pipe, ended], [], [], max(0.0, seconds))[0] if seconds > 0 else []
        if not ready:
            return None
        if pipe not in ready:  # it ended without a whole answer; a process that it started may hold the pipe open
            return bytes(text)
        chunk = os.read(pipe, 65_536)
        text += chunk
        if len(text) > MOST_BYTES + HEADER:
            return bytes(text)
        if not chunk:  # it has closed the pipe: it is ending, or its code goes on without it
            over = select.select([ended], [], [], max(0.0, deadline - time.monotonic()))[0]
            return bytes(text) if over else None
    return bytes(text)
