"""Which jobs of a run are running, have failed, or were cut off: read from their logs, and from the run's lock.

A stage opens its log when it starts and begins it with a line (`run.progress.started_line`); its output appears when it
has finished, and Snakemake deletes that output before it starts the stage again. So a log without its output is an
unfinished job, whose last lines are its progress or its error. The lock names the process of the run; on this machine
it can be looked up. Source: our decision; Snakemake's own records have no stable format.
"""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from extra_rl.results import SHARDS, is_start_folder, iteration_name
from extra_rl.run.lock import LOCK_NAME
from extra_rl.run.progress import STARTED
from extra_rl.watch.cells import Cell

State = Literal["running", "failed", "interrupted"]

TAIL = 8192
"""Bytes that are read from the end of a log."""
MESSAGE = 600
"""Characters that are kept of an error."""
AFTERWARDS = ("evaluate", "audit")
"""Jobs of an iteration that may run after its summary."""
SLACK = 2.0
"""Seconds by which the times of a lock (whole seconds), of a process and of a file may differ."""
_OWNER = re.compile(r"process (\d+) on (.+), since (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)")
_ERROR = re.compile(r"[A-Z]\w*(?:Error|Exception|Interrupt|Exit): ?")


@dataclass(frozen=True)
class Owner:
    """The process that holds, or held, the lock of a results folder. alive: None where it runs on another machine."""

    process: int
    host: str
    since: float
    alive: bool | None

    @classmethod
    def of(cls, results: Path) -> Owner | None:
        """Return the owner that the lock names; None without a readable lock."""
        try:
            text = (results / LOCK_NAME).read_bytes()[:500].decode(errors="replace")
        except OSError:
            return None
        found = _OWNER.match(text)
        if found is None:
            return None
        since = time.mktime(time.strptime(found[3], "%Y-%m-%d %H:%M:%S"))
        alive = _lives(int(found[1]), since) if found[2] == platform.node() else None
        return cls(int(found[1]), found[2], since, alive)


def _lives(process: int, since: float) -> bool:
    import psutil

    try:
        return bool(psutil.Process(process).create_time() <= since + SLACK)  # a later one has only the same number
    except psutil.Error:
        return False


@dataclass(frozen=True)
class Job:
    """An unfinished job. place: `extra/s0/i3`, "" for jobs of the whole run. said: its last line, or its error.

    changed: when its log changed, seconds since 1970.
    """

    place: str
    stage: str
    log: Path
    state: State
    changed: float
    said: str = ""


def jobs_of_cell(cell: Cell, owner: Owner | None) -> list[Job]:
    """Return the unfinished jobs of an arm and seed: of iterations after the last finished one, and its evaluation."""
    last = [cell.done - 1] if cell.done else []
    found = []
    for number in [*last, *cell.unfinished()]:
        folder = cell.run.path / iteration_name(number)
        for log in logs_in(folder / "logs"):
            if number < cell.done and not log.stem.startswith(AFTERWARDS):
                continue
            if job := job_of(log, output_in(folder, log.stem), f"{cell.name}/i{number}", log.stem, owner):
                found.append(job)
    return found


def shared_jobs(results: Path, owner: Owner | None) -> list[Job]:
    """Return the unfinished jobs of the whole run: problems, warm starts and their evaluation, comparison, report."""
    found = []
    for log in logs_in(results / "logs"):
        output = shared_output(results, log.stem)
        if output and (job := job_of(log, output, "", log.stem, owner)):
            found.append(job)
    return found


def output_in(folder: Path, log: str) -> Path:
    """Return the table that a stage of an iteration writes, from the name of its log."""
    name = log.removeprefix("gather_")
    return folder / (SHARDS if re.search(r"_\d+of\d+$", name) else "") / f"{name}.parquet"


def shared_output(results: Path, log: str) -> Path | None:
    """Return the output of a job of the whole run, from the name of its log; None for another log."""
    start = log.removeprefix("evaluate_")
    if is_start_folder(start):
        return results / start / ("warm_start.parquet" if log == start else "evaluate.parquet")
    outputs = {"prepare": "prepare/train.parquet", "compare": "compare.parquet", "report": "report.html"}
    return results / outputs[log] if log in outputs else None


def job_of(log: Path, output: Path, place: str, stage: str, owner: Owner | None) -> Job | None:
    """Return the job of a log; None where it has finished, or waits to be started again after an earlier run.

    Args:
        log: written by the stage.
        output: the table of the stage, which appears when it has finished.
        place: `extra/s0/i3`; "" for jobs of the whole run.
        stage: name of the stage.
        owner: the run's process; None: unknown.
    """
    if output.is_file():
        return None
    try:
        changed = log.stat().st_mtime
        lines = tail_of(log)
    except OSError:
        return None
    begun = max((i for i, line in enumerate(lines) if line.startswith(STARTED)), default=-1)
    lines = [line for line in lines[begun + 1 :] if line.strip()]
    error = next((i for i, line in enumerate(lines) if _ERROR.match(line)), None)
    if owner and owner.alive and changed < owner.since - SLACK:
        return None
    if error is not None:
        return Job(place, stage, log, "failed", changed, "\n".join(lines[error:])[:MESSAGE])
    dead = owner is not None and owner.alive is False
    return Job(place, stage, log, "interrupted" if dead else "running", changed, lines[-1].strip() if lines else "")


def logs_in(folder: Path) -> Iterator[Path]:
    """Yield the logs in a folder by name; none where there is no such folder."""
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.name.endswith(".log"))
    except OSError:
        return
    for name in names:
        yield folder / name


def tail_of(path: Path) -> list[str]:
    """Return the last lines of a text file, at most `TAIL` bytes."""
    with path.open("rb") as handle:
        size = handle.seek(0, os.SEEK_END)
        handle.seek(max(0, size - TAIL))
        return handle.read().decode("utf-8", errors="replace").splitlines()
