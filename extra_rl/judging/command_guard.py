"""Run a command whose process group never outlives the process that started this guard.

usage: python command_guard.py FD COMMAND [ARGUMENT ...]

FD is the read end of a pipe that the starting process keeps open. When the pipe closes, on purpose or after kill -9,
the command's process group is killed. When the command ends, the rest of its process group is killed too. Exit code:
that of the command, or 128 + N after signal N. The guard is a separate program, because the starting process may itself
be killed, and imports only the standard library.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading


def main(watched: int, command: list[str]) -> int:
    """Run the command and return its exit code, 127 if it cannot be started."""
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
    """Kill a process group if it still exists."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
