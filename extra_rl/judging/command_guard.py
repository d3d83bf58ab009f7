"""Runs a command so that neither it nor anything that it starts outlives whoever asked for it.

usage: python command_guard.py FD COMMAND [ARGUMENT ...]

FD is the read end of a pipe that the asking process holds open. When it closes, by will or by kill -9, the command's
process group is killed; so is what the command leaves behind when it ends. Exit code: the command's, 128 + N after a
signal N. A program of its own with the standard library alone, because the asking process may be killed itself.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading


def main(watched: int, command: list[str]) -> int:
    try:
        process = subprocess.Popen(command, process_group=0)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        return 127
    threading.Thread(target=_kill_at_end_of_file, args=(watched, process.pid), daemon=True).start()
    code = process.wait()
    _kill(process.pid)
    return code if code >= 0 else 128 - code


def _kill_at_end_of_file(watched: int, group: int) -> None:
    os.read(watched, 1)
    _kill(group)


def _kill(group: int) -> None:
    """Kills a process group; nothing is left to do where it is gone already."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
