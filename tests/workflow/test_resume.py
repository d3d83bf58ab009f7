"""A run that is killed again and again ends with the bytes of one that was left alone, and nothing outlives it."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Run, copy_of, new_run
from tests.workflow.processes import RunningWorkflow, all_gone, is_worker, tables_and_policies

pytestmark = pytest.mark.slow

Moment = Callable[[RunningWorkflow, Run], None]
LONGEST_SECONDS = 8.0


def at_random(running: RunningWorkflow, run: Run) -> None:
    seconds = random.uniform(0, LONGEST_SECONDS)
    print(f"interrupted {seconds:.3f} s after the start")
    time.sleep(seconds)


def once_there(*files: str) -> Moment:
    """When one of the files appears. A stage opens its log when it begins."""

    def wait(running: RunningWorkflow, run: Run) -> None:
        running.wait_for(lambda: any((run.results / file).exists() for file in files))

    return wait


IN_PREPARE = once_there("logs/prepare.log")
IN_GENERATE = once_there("grpo/s0/iteration_0000/logs/generate.log", "extra/s0/iteration_0000/logs/generate.log")
WRITING_A_POLICY = once_there("extra/s0/iteration_0000/policy/config.json")
IN_UPDATE = once_there("grpo/s0/iteration_0001/logs/update.log")

KILLS = (
    (IN_PREPARE, RunningWorkflow.kill_group, signal.SIGKILL),
    (at_random, RunningWorkflow.kill_group, signal.SIGINT),
    (IN_GENERATE, RunningWorkflow.kill_snakemake, signal.SIGKILL),
    (WRITING_A_POLICY, RunningWorkflow.kill_group, signal.SIGKILL),
    (IN_UPDATE, RunningWorkflow.kill_group, signal.SIGINT),
)


def test_killed_again_and_again(mini_run: Run, tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    for moment, kill, how in KILLS:
        with RunningWorkflow(run) as running:
            moment(running, run)
            family = running.family()
            kill(running, how)
            assert running.wait() != 0, running.output()
            assert all_gone(family), f"something outlived {how.name}: {family}"
    run.snakemake()
    expected, found = tables_and_policies(mini_run.results), tables_and_policies(run.results)
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_worker_goes_with_snakemake(mini_run: Run, tmp_path: Path, how: signal.Signals) -> None:
    run = with_something_to_do(mini_run, tmp_path / "run")
    with RunningWorkflow(run) as running:
        running.wait_for((run.results / LOST / "logs" / "generate.log").exists)
        family = running.family()
        assert sum(map(is_worker, family)) >= 1
        running.kill_snakemake(how)
        running.wait()
        assert all_gone(family)
        assert "Traceback" not in running.output()


def test_a_second_run_of_the_same_results_is_refused(mini_run: Run, tmp_path: Path) -> None:
    run = with_something_to_do(mini_run, tmp_path / "run")
    with RunningWorkflow(run) as running:
        running.wait_for(lambda: f"process {running.pid} " in (run.results / ".lock").read_text())
        second = run.snakemake(check=False)
    assert second.returncode == 2
    assert f"results/mini is being written by another run (process {running.pid} on " in second.stderr
    assert "Traceback" not in second.stderr


LOST = "grpo/s0/iteration_0001"


def with_something_to_do(mini_run: Run, workdir: Path) -> Run:
    """A copy of the finished run in which one arm has lost an iteration."""
    run = copy_of(mini_run, workdir)
    shutil.rmtree(run.results / LOST)
    return run
