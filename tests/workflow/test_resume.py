"""A run that is killed repeatedly ends with the same bytes as one without interruption, and leaves no process."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from stages.experiment import end_in_a_thread
from tests.conftest import Run, copy_of, new_run
from tests.workflow.processes import RunningWorkflow, all_gone, is_worker, tables_and_policies

pytestmark = pytest.mark.slow

Moment = Callable[[RunningWorkflow, Run], None]
LONGEST_SECONDS = 8.0


def at_random(running: RunningWorkflow, run: Run) -> None:
    seconds = random.uniform(0, LONGEST_SECONDS)
    print(f"interrupted {seconds:.3f} s after the start")
    time.sleep(seconds)


def in_arms(file: str) -> list[str]:
    return [f"{arm}/s0/{file}" for arm in ("grpo", "extra")]


def once_there(*files: str) -> Moment:
    """When one of the files appears. A stage opens its log when it begins."""

    def wait(running: RunningWorkflow, run: Run) -> None:
        running.wait_for(lambda: any((run.results / file).exists() for file in files))

    return wait


@dataclass(frozen=True)
class Kill:
    """When a run is killed, who is hit (Snakemake's process group, as by Ctrl-C, or Snakemake alone), and how."""

    moment: Moment
    target: Callable[[RunningWorkflow, signal.Signals], None]
    how: signal.Signals
    worker_runs: bool = True


KILLS = (
    Kill(once_there("logs/prepare.log"), RunningWorkflow.kill_group, signal.SIGKILL),
    Kill(at_random, RunningWorkflow.kill_group, signal.SIGINT, worker_runs=False),
    Kill(once_there(*in_arms("iteration_0000/logs/generate.log")), RunningWorkflow.kill_snakemake, signal.SIGKILL),
    Kill(once_there(*in_arms("iteration_0000/policy/config.json")), RunningWorkflow.kill_group, signal.SIGKILL),
    Kill(once_there(*in_arms("iteration_0001/logs/update.log")), RunningWorkflow.kill_snakemake, signal.SIGTERM),
    Kill(once_there(*in_arms("iteration_0002/logs/evaluate.log")), RunningWorkflow.kill_group, signal.SIGINT),
)


def ended(running: RunningWorkflow, kill: Kill) -> int:
    """The exit code. A Ctrl-C within Snakemake's own imports can be swallowed there (seen 0.18 s after the start): one
    presses it again."""
    if kill.how is signal.SIGINT:
        with suppress(subprocess.TimeoutExpired):
            return running.wait(30)
        kill.target(running, kill.how)
    return running.wait()


def test_killed_again_and_again(mini_run: Run, tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    for kill in KILLS:
        with RunningWorkflow(run) as running:
            kill.moment(running, run)
            family = running.family()
            assert any(map(is_worker, family)) or not kill.worker_runs
            kill.target(running, kill.how)
            assert ended(running, kill) != 0, running.output()
            assert all_gone(family), f"something outlived {kill.how.name}: {family}"
    run.snakemake()
    expected, found = tables_and_policies(mini_run.results), tables_and_policies(run.results)
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []


def test_a_second_run_of_the_same_results_is_refused(mini_run: Run, tmp_path: Path) -> None:
    run = with_something_to_do(mini_run, tmp_path / "run")
    with RunningWorkflow(run) as running:
        running.wait_for(lambda: f"process {running.pid} " in (run.results / ".lock").read_text())
        second = run.snakemake(check=False)
    assert second.returncode == 2
    assert f"results/mini is being written by another run (process {running.pid} on " in second.stderr
    assert "Traceback" not in second.stderr


def test_a_handler_that_takes_the_main_threads_lock_ends_the_run() -> None:
    lock, ended = threading.Lock(), threading.Event()

    def handler(*_: object) -> None:
        if lock.acquire(timeout=5):
            ended.set()

    before = signal.signal(signal.SIGTERM, handler)
    try:
        end_in_a_thread()
        with lock:  # as Snakemake's main thread does while it selects jobs
            signal.raise_signal(signal.SIGTERM)
            assert not ended.is_set()
        assert ended.wait(5)
    finally:
        signal.signal(signal.SIGTERM, before)


LOST = "grpo/s0/iteration_0001"


def with_something_to_do(mini_run: Run, workdir: Path) -> Run:
    """A copy of the finished run in which one arm has lost an iteration."""
    run = copy_of(mini_run, workdir)
    shutil.rmtree(run.results / LOST)
    return run
