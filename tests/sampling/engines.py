"""A run whose stages may start engines."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from extra_rl.sampling.vllm import run_engine
from tests.conftest import ROOT

RUN = """
import os, sys
from pathlib import Path
from extra_rl.sampling.vllm import run_engine
run_engine.open_folder(Path(sys.argv[1]))
print(os.environ[run_engine.FOLDER_VARIABLE], flush=True)
sys.stdin.read()
"""
"""Plays Snakemake: lives until its standard input ends."""


def start_run(logs: Path) -> tuple[subprocess.Popen[str], Path]:
    """The process that plays Snakemake, and its folder of engines."""
    command = [sys.executable, "-c", RUN, str(logs)]
    run = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert run.stdout
    return run, Path(run.stdout.readline().strip())


@contextmanager
def run_with_engines(logs: Path) -> Iterator[Path]:
    """The folder of the engines, for stages in this process. At the end of the block the run is killed."""
    run, folder = start_run(logs)
    os.environ |= {run_engine.FOLDER_VARIABLE: str(folder), run_engine.LOGS_VARIABLE: str(logs)}
    try:
        yield folder
    finally:
        for name in (run_engine.FOLDER_VARIABLE, run_engine.LOGS_VARIABLE):
            os.environ.pop(name)
        run.kill()
        run.wait()
        until(lambda: not folder.exists())


def until(true: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "the condition did not become true"
        time.sleep(0.02)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
