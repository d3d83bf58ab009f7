"""Jobs of a warm worker for its tests, and what is known of processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from extra_rl.worker import client

PROJECT = Path(__file__).parents[2]
ROOM = Path(__file__).with_name("worker_room")
NEVER_COLD = 99
"""Exit code of `run.py` where no worker takes the job and WARM_ONLY is set."""


def popen(*argv: str, warm: bool = True, **options: Any) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(PROJECT), **options.pop("env", {})}
    if warm:
        env["WARM_ONLY"] = "1"
    else:
        env.pop(client.SOCKET_VARIABLE, None)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    return subprocess.Popen([sys.executable, str(ROOM / "run.py"), *argv], env=env, **pipes)


def outcome(*argv: str, **options: Any) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of one job."""
    process = popen(*argv, **options)
    output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition: Any, seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def gone(*pids: int) -> bool:
    return wait_until(lambda: not any(map(alive, pids)))


def nap(file: Path) -> tuple[subprocess.Popen[str], list[int]]:
    """A job that sleeps: its client, and the process ids of itself and of its child."""
    process = popen("nap", str(file))
    assert wait_until(file.exists)
    pids = [int(pid) for pid in file.read_text().split()]
    assert all(map(alive, pids))
    return process, pids
