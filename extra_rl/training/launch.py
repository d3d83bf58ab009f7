"""Training in several processes: torchrun starts them, and they end with this one.

A folder holds what passes between them: `job.json`, `rows.parquet` and `stage.lock` (held by this process as long as it
lives) for the processes; `result.json` of rank 0, or `error_<rank>.json` for an error that a user can act on.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import polars as pl

from extra_rl import errors
from extra_rl.run.lock import flock
from extra_rl.run.progress import Console
from extra_rl.training.allocation import Allocation, of_the_job
from extra_rl.training.run import TrainingJob

WORKER = "extra_rl.training.worker"
END_SECONDS = 10.0
"""How long torchrun may take to end its processes in order; then it is killed, and they see that it has gone."""


def read_job(folder: Path) -> TrainingJob:
    """Return the job of a folder that `write_job` has written."""
    from pydantic import TypeAdapter

    return TypeAdapter(TrainingJob).validate_json((folder / "job.json").read_bytes())


def write_job(folder: Path, job: TrainingJob, rows: pl.DataFrame) -> None:
    """Write the job and its rows, as the processes read them."""
    from pydantic import TypeAdapter

    (folder / "job.json").write_bytes(TypeAdapter(TrainingJob).dump_json(job))
    rows.write_parquet(folder / "rows.parquet")


def train_in_processes(job: TrainingJob, rows: pl.DataFrame, folder: Path, console: Console) -> dict[str, Any]:
    """Train in `update.processes` processes; return `steps`, `figures`, and `peak_memory_mb` of each process.

    Standard output of the processes goes to the console, their standard error to its log. Raises the ExtraError that a
    process has raised, ModelError when one ended otherwise.

    Args:
        job: what to train.
        rows: as for `run.train`.
        folder: for the files that pass between the processes; created anew, and removed at the end.
        console: of the stage.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        write_job(folder, job, rows)
        with _locked(folder / "stage.lock"):
            code, tail = _run(command(job, folder), job.settings.compute.threads, console)
        if code == 0 and (folder / "result.json").is_file():
            result: dict[str, Any] = json.loads((folder / "result.json").read_text())
            return result
        raise _reason(folder, job.settings.processes, code, tail)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def command(job: TrainingJob, folder: Path) -> list[str]:
    """Return torchrun's command line; with several nodes srun starts it on each, and they meet on this one.

    Raises ConfigError where the Slurm job of this process has too few nodes.
    """
    processes, nodes = job.settings.processes, job.settings.nodes
    torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes // nodes}"]
    worker = ["-m", WORKER, str(folder.absolute())]
    if nodes == 1:
        return [*torchrun, "--standalone", *worker]
    allocation = Allocation.present()
    cpus = job.settings.compute.threads * processes // nodes
    srun = allocation.srun(nodes, cpus=cpus, device=job.device)
    # The id keeps apart two jobs that were given the same free port one after the other.
    meeting = [f"--nnodes={nodes}", "--rdzv-backend=c10d", f"--rdzv-id={allocation.job}-{os.getpid()}"]
    return [*srun, *torchrun, *meeting, f"--rdzv-endpoint={platform.node()}:{_free_port()}", *worker]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _locked(lock: Path) -> Iterator[None]:
    """The lock of the folder; the kernel frees it when this process ends, at kill -9 too."""
    with lock.open("wb") as file:
        flock(file, lock, fcntl.LOCK_EX)
        yield


def _run(words: Sequence[str], threads: int, console: Console) -> tuple[int, deque[str]]:
    """Run a command; return its exit code and the last lines of its standard error."""
    checkout = str(Path(__file__).parents[2])  # where `-m` finds this package, installed or not
    path = os.pathsep.join(filter(None, [checkout, os.environ.get("PYTHONPATH", "")]))
    variables = {**of_the_job(os.environ), "OMP_NUM_THREADS": str(threads), "PYTHONPATH": path}
    pipes: Any = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    tail: deque[str] = deque(maxlen=100)
    process = subprocess.Popen(words, **pipes, env=variables, text=True, errors="replace")
    # A thread reads standard error, so that a full pipe blocks neither stream.
    listener = threading.Thread(target=_listen, args=(process.stderr, console, tail), daemon=True)
    listener.start()
    try:
        for line in process.stdout or ():
            console.say(line.rstrip("\n"))
        code = process.wait()
        listener.join(END_SECONDS)
    finally:
        _end(process)
    return code, tail


def _listen(stream: TextIO, console: Console, tail: deque[str]) -> None:
    for line in stream:
        tail.append(line.rstrip("\n"))
        console.note(tail[-1])


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _reason(folder: Path, processes: int, code: int, tail: Sequence[str]) -> errors.ExtraError:
    """Return the first error that a process has written, else what torchrun reports of the first that ended."""
    for rank in range(processes):
        file = folder / f"error_{rank}.json"
        if file.is_file():
            written = json.loads(file.read_text())
            kind = getattr(errors, written["kind"], errors.ExtraError)
            return kind(written["message"])
    found = re.search(r"Root Cause.*?rank +: (\d+).*?exitcode +: (-?\d+)", "\n".join(tail), re.DOTALL)
    which = f"rank {found[1]} ended with exit code {found[2]}" if found else f"torchrun ended with exit code {code}"
    return errors.ModelError(
        f"update trained in {processes} processes, and {which}. See the log of this stage for their output. Exit code "
        "-9 without a message is most often the kernel's, out of memory: lower update.tokens_per_batch, or set "
        "update.gradient_checkpointing. No policy was written."
    )
