"""`python -m extra_rl.sampling.vllm.keeper`: a small process that runs vLLM's server and ends it with the run.

The server must live longer than the stage that started it and no longer than the run. So the run holds a lock (`flock`)
on a file for as long as it lives; a thread of the keeper waits for that lock and gets it when the run has ended, at
kill -9 too. A stage outside of a run holds such a lock itself, for as long as it samples. The keeper leads the process
group of all that the server starts, and ends the whole of it.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

KEEPER_LOCK = "keeper.lock"
"""File of an engine that its keeper holds locked while it lives, with its process id."""
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def main(argv: list[str]) -> int:
    """Runs the server until it ends, the run ends, or SIGTERM; then nothing of it is left but its log."""
    parser = argparse.ArgumentParser(prog="python -m extra_rl.sampling.vllm.keeper", description=__doc__)
    parser.add_argument("--alive", type=Path, required=True, help="file that the run holds locked while it lives")
    parser.add_argument("--folder", type=Path, required=True, help="the engine's folder; it is removed at the end")
    parser.add_argument("--module", required=True, help="the server, as python -m has it")
    parser.add_argument("--patience", type=float, default=10.0, help="seconds that the server may take to end in order")
    parser.add_argument("server", nargs="*", metavar="WORD", help="after --: its arguments")
    options = parser.parse_args(argv)
    if os.getpgrp() != os.getpid():  # started by hand
        os.setpgid(0, 0)
    lock = os.open(options.folder / KEEPER_LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    os.umask(0o077)  # sockets of mode 0700, the engine's own too
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)  # what outlives the server becomes a child of the keeper
    server = subprocess.Popen(
        [sys.executable, "-m", options.module, *options.server],
        stdin=subprocess.DEVNULL,
        preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM),  # should the keeper itself be killed
    )
    run_ended = threading.Event()
    threading.Thread(target=_wait_for_the_end, args=(options.alive, run_ended, server), daemon=True).start()
    try:
        return server.wait()
    finally:
        _end(server, options.patience)
        shutil.rmtree(options.folder.parent if run_ended.is_set() else options.folder, ignore_errors=True)
        os.killpg(0, signal.SIGKILL)


def _wait_for_the_end(alive: Path, run_ended: threading.Event, server: subprocess.Popen[bytes]) -> None:
    """Ends the server when nobody holds the file, or it is gone."""
    with suppress(FileNotFoundError), alive.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
    run_ended.set()
    server.terminate()


def _end(server: subprocess.Popen[bytes], patience: float) -> None:
    """Asks the server to end, and waits for it and all that it has started: there is shared memory to be freed."""
    server.terminate()
    deadline = time.monotonic() + patience
    with suppress(ChildProcessError):  # there is none left
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
