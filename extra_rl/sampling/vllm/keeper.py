"""`python -m extra_rl.sampling.vllm.keeper`: a small process that runs vLLM's server and ends it with the run.

The server must live longer than the stage that started it and no longer than the run. So the run holds a lock (`flock`)
on a file for as long as it lives; a thread of the keeper waits for that lock and gets it when the run has ended, at
kill -9 too. A stage outside of a run holds such a lock itself for as long as it samples. The keeper leads the process
group of everything that the server starts, and kills that group at the end.

A second lock says whether an engine has a keeper. `start` locks the file KEEPER_LOCK before the keeper exists, and the
keeper inherits the locked descriptor. So the lock is held from before the keeper's first instruction until after its
last, and a stage that finds it free can replace the engine's folder safely. The file itself stays until the run ends:
a removed file would look free while its keeper still cleans up.
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
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

MODULE = "extra_rl.sampling.vllm.keeper"
KEEPER_LOCK = "keeper.lock"
"""File of an engine that is locked while its keeper lives; it contains the keeper's process id."""
POLL_SECONDS = 0.05
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def start(
    folder: Path,
    alive: Path,
    module: str,
    words: Sequence[str],
    *,
    log: Path,
    variables: Mapping[str, str],
    patience: float = 10.0,
) -> subprocess.Popen[bytes]:
    """Start a keeper in a new session, so that it outlives this process; it holds the engine's lock from birth.

    Args:
        folder: the engine's folder, whose KEEPER_LOCK must be free; the keeper empties it when the server ends.
        alive: file that the run holds locked while it lives.
        module: the server, as `python -m` takes it.
        words: arguments of the server.
        log: receives the output of keeper and server.
        variables: environment variables in addition to this process's own.
        patience: seconds that the server may take to end in order.
    """
    lock = os.open(folder / KEEPER_LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process's `is_locked` may hold it for an instant
        os.truncate(lock, 0)
        options = ["--lock", str(lock), "--alive", str(alive), "--folder", str(folder), "--patience", str(patience)]
        with log.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", MODULE, *options, "--module", module, "--", *words],
                cwd=Path(__file__).parents[3],  # where `-m` finds this package, installed or not
                env={**os.environ, **variables},
                pass_fds=[lock],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
    finally:
        os.close(lock)  # the lock stays with the keeper, which shares the open file


def stop(folder: Path, seconds: float) -> bool:
    """End an engine's keeper and its server; whether the keeper has gone within `seconds`."""
    deadline = time.monotonic() + seconds
    # A keeper that still starts has no process id in the file yet.
    while is_locked(folder / KEEPER_LOCK) and time.monotonic() < deadline:
        if pid := (folder / KEEPER_LOCK).read_text():
            with suppress(ProcessLookupError):  # it has ended meanwhile
                os.kill(int(pid), signal.SIGTERM)
            return wait_until_free(folder / KEEPER_LOCK, deadline - time.monotonic())
        time.sleep(POLL_SECONDS)
    return not is_locked(folder / KEEPER_LOCK)


def is_locked(path: Path) -> bool:
    """Whether another open file holds the lock of `path`; False for a missing file."""
    return not wait_until_free(path, 0.0)


def wait_until_free(path: Path, seconds: float) -> bool:
    """Wait for the lock of `path`, for at most `seconds`; whether it is free, as that of a missing file is.

    The file is opened once, so that removing it does not make it look free while its holder still lives.
    """
    deadline = time.monotonic() + seconds
    with suppress(FileNotFoundError), path.open("rb") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    return False
                time.sleep(POLL_SECONDS)
    return True


def main(argv: list[str]) -> int:
    """Run the server until it ends, the run ends, or SIGTERM; then remove everything of it but its log."""
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("--lock", type=int, required=True, help="descriptor of the engine's lock, held by the starter")
    parser.add_argument("--alive", type=Path, required=True, help="file that the run holds locked while it lives")
    parser.add_argument("--folder", type=Path, required=True, help="the engine's folder, emptied at the end")
    parser.add_argument("--module", required=True, help="the server, as python -m takes it")
    parser.add_argument("--patience", type=float, required=True, help="seconds that the server may take to end")
    parser.add_argument("server", nargs="*", metavar="WORD", help="after --: its arguments")
    options = parser.parse_args(argv)
    if os.getpgrp() != os.getpid():  # started by hand: the group that is killed at the end must be its own
        os.setpgid(0, 0)
    os.umask(0o077)  # sockets of mode 0700, the engine's own too
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)  # what outlives the server becomes a child of the keeper
    server = subprocess.Popen(  # the lock's descriptor is closed in the server: only the keeper holds it
        [sys.executable, "-m", options.module, *options.server],
        stdin=subprocess.DEVNULL,
        preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM),  # should the keeper itself be killed
    )
    run_ended = threading.Event()
    try:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        os.pwrite(options.lock, str(os.getpid()).encode(), 0)  # from here on `stop` can end it in order
        threading.Thread(target=_wait_for_the_end, args=(options.alive, run_ended, server), daemon=True).start()
        return server.wait()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _end(server, options.patience)
        if run_ended.is_set():
            shutil.rmtree(options.folder.parent, ignore_errors=True)
        else:
            _empty(options.folder)
        os.killpg(0, signal.SIGKILL)


def _wait_for_the_end(alive: Path, run_ended: threading.Event, server: subprocess.Popen[bytes]) -> None:
    """End the server when the run no longer holds the file, or the file is missing."""
    with suppress(FileNotFoundError), alive.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
    run_ended.set()
    server.terminate()


def _end(server: subprocess.Popen[bytes], patience: float) -> None:
    """Ask the server to end, and wait for it and all that it has started: they free shared memory."""
    server.terminate()
    deadline = time.monotonic() + patience
    with suppress(ChildProcessError):  # no child is left
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(POLL_SECONDS)


def _empty(folder: Path) -> None:
    """Remove everything in an engine's folder but the lock, which this process still holds."""
    for path in folder.glob("*"):  # nothing where another keeper has removed the folder with the run
        if path.name == KEEPER_LOCK:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
