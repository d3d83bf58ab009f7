"""Results folders by hand for `extra watch`: context, lock, summaries and logs, as a run would leave them."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

from extra_rl.results import iteration_name
from extra_rl.run.context import Horizon, RunContext
from extra_rl.run.lock import LOCK_NAME
from extra_rl.run.progress import started_line
from tests.report.results_folder import write_iteration

NOW = 1_800_000_000.0


def make(root: Path, cells: tuple[str, ...] = ("grpo/s0",), iterations: int = 40, tokens: int = 10_000) -> Path:
    """A results folder with a context, before its first job."""
    root.mkdir(parents=True)
    RunContext(horizon=Horizon(iterations, tokens), cells=cells).write(root)
    return root


def finish(root: Path, cell: str, number: int, at: float = NOW, **figures: Any) -> Path:
    """A finished iteration, whose summary has the given time."""
    arm, _, seed = cell.rpartition("/s")
    folder = root / arm / f"s{seed}" / iteration_name(number)
    write_iteration(folder, arm, int(seed), number, **figures)
    os.utime(folder / "summarize.parquet", (at, at))
    return folder


def log(folder: Path, name: str, *lines: str, at: float = NOW, before: str = "") -> Path:
    """The log of a stage that was started; before: what earlier starts left in it."""
    path = folder / "logs" / f"{name}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(before + "\n".join([started_line("2027-01-15T08:00:00.000+00:00", 12, "host"), *lines]) + "\n")
    os.utime(path, (at, at))
    return path


def lock(root: Path, process: int = os.getpid(), since: float = NOW - 3600, host: str = "") -> None:
    """The lock of a run. By default its process is this one, which began before the year 2027."""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(since))
    (root / LOCK_NAME).write_text(f"process {process} on {host or platform.node()}, since {when}\n")
