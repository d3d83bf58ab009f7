"""A run that a test watches and kills, with all the processes that it has started."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.conftest import Run, environment

WORKER = "extra_rl.worker"


class RunningWorkflow:
    """`snakemake` in a separate process group, as a terminal starts it."""

    def __init__(self, run: Run, *arguments: str, variables: dict[str, str] | None = None) -> None:
        self._output = (run.workdir / "output.txt").open("w+")
        self._process = subprocess.Popen(
            run.command(*arguments),
            stdout=self._output,
            stderr=subprocess.STDOUT,
            env=variables or environment(),
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        family = self.family()
        if self._process.poll() is None:
            self.kill_group(signal.SIGKILL)
        self._process.wait()
        all_gone(family)
        self._output.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def runs(self) -> bool:
        return self._process.poll() is None

    def wait_for(self, condition: Callable[[], object], seconds: float = 120) -> None:
        """Return within milliseconds after the condition holds; fail when it never does."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self._process.poll() is None, f"ended before it was killed: {self.output()}"
            assert time.monotonic() < deadline, f"nothing came of it: {self.output()}"
            time.sleep(0.002)

    def output(self) -> str:
        self._output.seek(0)
        return self._output.read()

    def kill_group(self, how: signal.Signals) -> None:
        """Signal Snakemake, its shells and their clients, as Ctrl-C does; the worker is in another session."""
        os.killpg(self.pid, how)

    def kill_snakemake(self, how: signal.Signals) -> None:
        self._process.send_signal(how)

    def wait(self, seconds: float = 60) -> int:
        return self._process.wait(seconds)

    def family(self) -> list[psutil.Process]:
        """The worker, running jobs, shells and clients: all processes that must end with Snakemake."""
        if self._process.poll() is not None:
            return []
        return psutil.Process(self.pid).children(recursive=True)


def is_worker(process: psutil.Process) -> bool:
    try:
        return WORKER in process.cmdline()
    except psutil.Error:
        return False


def all_gone(processes: list[psutil.Process], seconds: float = 10) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return all(process.status() == psutil.STATUS_ZOMBIE for process in alive)


def tables_and_policies(results: Path) -> dict[str, bytes]:
    """Every Parquet table and every policy's weights below a results folder, by relative path."""
    return {
        str(path.relative_to(results)): path.read_bytes()
        for pattern in ("**/*.parquet", "**/policy/*.safetensors", "**/policy/manifest.json")
        for path in sorted(results.glob(pattern))
    }
