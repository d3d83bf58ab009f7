"""A run that is killed again and again ends with the bytes of one that was left alone, and nothing outlives it."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Run, copy_of, new_run
from tests.workflow.processes import RunningWorkflow, all_gone, is_worker, tables_and_policies, wait_for

pytestmark = pytest.mark.slow

RANDOM_SECONDS = 8.0


def at_a_random_moment() -> Callable[[Run], None]:
    seconds = random.uniform(0, RANDOM_SECONDS)

    def wait(run: Run) -> None:
        print(f"interrupted {seconds:.3f} s after the start")
        time.sleep(seconds)

    return wait


def once_there(*files: str) -> Callable[[Run], None]:
    """Waits until one of the files is there (a stage opens its log when it begins)."""

    def wait(run: Run) -> None:
        wait_for(lambda: any((run.results / file).exists() for file in files))

    return wait


IN_PREPARE = once_there("logs/prepare.log")
IN_GENERATE = once_there("grpo/s0/iteration_0000/logs/generate.log", "extra/s0/iteration_0000/logs/generate.log")
WRITING_A_POLICY = once_there("extra/s0/iteration_0000/policy/config.json")
IN_UPDATE = once_there("grpo/s0/iteration_0001/logs/update.log")

KILLS = (
    (IN_PREPARE, RunningWorkflow.kill_group, signal.SIGKILL),
    (at_a_random_moment(), RunningWorkflow.kill_group, signal.SIGINT),
    (IN_GENERATE, RunningWorkflow.kill_snakemake, signal.SIGKILL),
    (WRITING_A_POLICY, RunningWorkflow.kill_group, signal.SIGKILL),
    (IN_UPDATE, RunningWorkflow.kill_snakemake, signal.SIGTERM),
)


def test_killed_again_and_again(mini_run: Run, tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    for moment, kill, how in KILLS:
        with RunningWorkflow(run) as running:
            moment(run)
            assert not running.ended, running.output()
            family = running.family()
            kill(running, how)
            assert running.wait() != 0, running.output()
            assert all_gone(family), f"something outlived {how.name}"
            assert "Traceback" not in running.output()
    run.snakemake()
    expected, found = tables_and_policies(mini_run.results), tables_and_policies(run.results)
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_worker_goes_with_snakemake(mini_run: Run, tmp_path: Path, how: signal.Signals) -> None:
    run = with_something_to_do(mini_run, tmp_path / "run")
    with RunningWorkflow(run) as running:
        wait_for((run.results / "grpo" / "s0" / "iteration_0001" / "logs" / "generate.log").exists)
        family = running.family()
        assert sum(map(is_worker, family)) >= 1
        running.kill_snakemake(how)
        running.wait()
        assert all_gone(family)


def test_a_second_run_of_the_same_results_is_refused(mini_run: Run, tmp_path: Path) -> None:
    run = with_something_to_do(mini_run, tmp_path / "run")
    with RunningWorkflow(run) as running:
        wait_for(lambda: f"process {running.pid} " in (run.results / ".lock").read_text())
        second = run.snakemake(check=False)
        assert not running.ended, running.output()
    assert second.returncode == 2
    assert f"results/mini is being written by another run (process {running.pid} on " in second.stderr
    assert "Traceback" not in second.stderr


def with_something_to_do(mini_run: Run, workdir: Path) -> Run:
    """A copy of the finished run in which one arm has lost its second iteration."""
    run = copy_of(mini_run, workdir)
    folder = run.results / "grpo" / "s0" / "iteration_0001"
    for path in (*folder.glob("*.parquet"), *folder.glob("logs/*")):
        path.unlink()
    return run
