"""Start, watch and stop the worker, in the process that it must not outlive (Snakemake's, in `onstart`)."""

import atexit
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from extra_rl.worker.client import SOCKET_VARIABLE, connect
from extra_rl.worker.leftovers import make_folder
from extra_rl.worker.server import PRELOAD

LOG_NAME = "worker.log"
LISTEN_SECONDS = 20.0
"""How long `start` waits for the socket, which the server opens before it preloads any module."""
STOP_SECONDS = 10.0
RESTARTS = 3
"""How often a worker that was killed is started again; a machine that kills it more often lacks memory."""


class Worker:
    """A running worker, which is started again when it is killed. It needs no reference to this object to live."""

    def __init__(self, socket: Path, log: Path, modules: Sequence[str]) -> None:
        self.socket = socket
        self._log, self._modules = log, modules
        self._stopping = threading.Event()
        self.process, self._pipe_fd = self._spawned()

    def _spawned(self) -> tuple[subprocess.Popen[bytes], int]:
        """Start the process; return it and the write end of its pipe, which only this process holds."""
        self.socket.unlink(missing_ok=True)
        read_fd, write_fd = os.pipe()
        command = [sys.executable, "-m", "extra_rl.worker", "--socket", str(self.socket)]
        command += ["--parent-fd", str(read_fd), "--preload", ",".join(self._modules)]
        with self._log.open("ab") as output:
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
        return process, write_fd

    def listens(self) -> bool:
        """Wait for the socket; return whether the worker listens there."""
        deadline = time.monotonic() + LISTEN_SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            if connection := connect(str(self.socket)):
                connection.close()
                return True
            time.sleep(0.01)
        return False

    def watch(self, restarts: int) -> None:
        """Start the worker again each time that it is killed, at most this often; return when it is stopped.

        Until a new one listens, the stages run cold. Every end is one line on standard error.
        """
        for left in reversed(range(restarts + 1)):
            code = self.process.wait()
            if self._stopping.is_set():
                return
            how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
            then = "a new one is started" if left else f"stages run cold from here; see {self._log}"
            print(f"extra: the warm worker ended ({how}); {then}", file=sys.stderr, flush=True)
            if left:
                os.close(self._pipe_fd)
                self.process, self._pipe_fd = self._spawned()

    def stop(self) -> None:
        """Kill the running jobs, end the worker and remove its socket. Call it once."""
        self._stopping.set()
        os.environ.pop(SOCKET_VARIABLE, None)
        os.close(self._pipe_fd)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:  # in the middle of a slow import
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.socket.parent, ignore_errors=True)


def _remove_of(process: int, folder: Path) -> None:
    """Remove a worker's folder at the end of the process that started it, not of one that was forked from it."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


def start(
    directory: Path,
    preload_extra: Sequence[str] = (),
    preload: Sequence[str] = PRELOAD,
    restarts: int = RESTARTS,
) -> Worker:
    """Start the worker and set `EXTRA_WORKER` to its socket, so that commands started later find it.

    The worker runs in a separate session, so Ctrl-C does not reach it: it ends when the last write end of its pipe
    closes, which only this process holds (a fork without exec shares it). The socket lies in a new directory of mode
    0700 under /tmp, because its path may have at most 107 bytes. If the worker does not start, one line on standard
    error says so, and the stages run cold.

    Args:
        directory: of the log, `worker.log`.
        preload_extra: further modules to preload.
        preload: modules to preload.
        restarts: how often a worker that is killed is started again.
    """
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / LOG_NAME
    log.unlink(missing_ok=True)
    folder = make_folder()
    # A worker that is just being started again when this process ends does not come to removing it.
    atexit.register(_remove_of, os.getpid(), folder)
    worker = Worker(folder / "socket", log, (*preload, *preload_extra))
    os.environ[SOCKET_VARIABLE] = str(worker.socket)
    if worker.listens():
        threading.Thread(target=worker.watch, args=(restarts,), name="worker", daemon=True).start()
    else:
        print(f"extra: no warm worker, stages run cold; see {log}", file=sys.stderr)
    return worker
