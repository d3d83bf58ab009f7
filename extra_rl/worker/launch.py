"""Start and stop the worker, in the process that it must not outlive (Snakemake's, in `onstart`)."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from extra_rl.worker.client import SOCKET_VARIABLE, connect
from extra_rl.worker.leftovers import make_folder
from extra_rl.worker.server import PRELOAD

LOG_NAME = "worker.log"
LISTEN_SECONDS = 20.0
"""How long `start` waits for the socket, which the server opens before it preloads any module."""
STOP_SECONDS = 10.0


@dataclass(frozen=True)
class Worker:
    """A running worker. It does not depend on this object: the pipe stays open while this process lives."""

    process: subprocess.Popen[bytes]
    socket: Path
    pipe_fd: int

    def stop(self) -> None:
        """Kill the running jobs, end the worker and remove its socket. Call it once."""
        os.environ.pop(SOCKET_VARIABLE, None)
        os.close(self.pipe_fd)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:  # in the middle of a slow import
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.socket.parent, ignore_errors=True)


def start(directory: Path, preload_extra: Sequence[str] = (), preload: Sequence[str] = PRELOAD) -> Worker:
    """Start the worker and set `EXTRA_WORKER` to its socket, so that commands started later find it.

    The worker runs in a separate session, so Ctrl-C does not reach it: it ends when the last write end of its pipe
    closes, which only this process holds (a fork without exec shares it). The socket lies in a new directory of mode
    0700 under /tmp, because its path may have at most 107 bytes. If the worker does not start, one line on standard
    error says so, and the stages run cold.

    Args:
        directory: of the log, `worker.log`.
        preload_extra: further modules to preload.
        preload: modules to preload.
    """
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / LOG_NAME
    socket = make_folder() / "socket"
    read_fd, write_fd = os.pipe()
    command = [sys.executable, "-m", "extra_rl.worker", "--socket", str(socket)]
    command += ["--parent-fd", str(read_fd), "--preload", ",".join((*preload, *preload_extra))]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=Path(__file__).parents[2],  # where `-m` finds this package, installed or not
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(read_fd,),
            start_new_session=True,
        )
    os.close(read_fd)
    os.environ[SOCKET_VARIABLE] = str(socket)
    if not _listens(socket, process):
        print(f"extra: no warm worker, stages run cold; see {log}", file=sys.stderr)
    return Worker(process, socket, write_fd)


def _listens(socket: Path, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + LISTEN_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if connection := connect(str(socket)):
            connection.close()
            return True
        time.sleep(0.01)
    return False
