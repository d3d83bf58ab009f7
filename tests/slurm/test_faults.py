"""What happens to single jobs on a real Slurm; the run ends with the bytes of an undisturbed local run."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable

import psutil
import pytest
import yaml

from extra_rl.run.slurm import SlurmJob
from tests.conftest import Run
from tests.slurm.cluster import (
    ClusterRun,
    RunningOnSlurm,
    Slurm,
    assert_same_results,
    cli,
    marker_of,
    on_slurm,
    overlapping,
    said,
    until,
)

pytestmark = pytest.mark.slow

LAST = "extra/s0/iteration_0001"
OF_LAST = tuple(f"results/mini/{LAST}/{name}.parquet" for name in ("summarize", "evaluate"))
"""Targets that need all stages of the iteration."""
Without = Callable[..., Run]


def lose(run: Run) -> None:
    """Delete what was made from all arms, so that it is made again."""
    for name in ("compare.parquet", "summary.json", "report.html"):
        (run.results / name).unlink()


@pytest.mark.usefixtures("slurm")
def test_a_cancelled_shard_is_submitted_again(local_in_shards: Run, without: Without) -> None:
    """Also: an edit of the configuration during the run counts from the next start."""
    run = on_slurm(without(local_in_shards, LAST), "group", warm=True)
    original = run.config.read_text()
    with RunningOnSlurm(run, *OF_LAST) as running:
        shard = running.wait_for_job("generate_shard")
        edited = yaml.safe_load(original)
        edited["update"]["learning_rate"] = 1.0
        run.config.write_text(yaml.safe_dump(edited))
        said("scancel", shard)
        output = running.finish()
    assert f"'{shard}' failed, SLURM status is: 'CANCELLED'" in output
    assert "It was cancelled, not by this Snakemake." in output
    run.config.write_text(original)
    assert_same_results(run, local_in_shards)
    ended = run.ended()
    assert overlapping(ended) == []
    again = [job for job in ended if "generate_shard" in job.work and "regenerate" not in job.work]
    assert len(again) == 2 + 1 - (
        shard not in {job.id for job in ended}
    )  # squeue has no start of a job cancelled before
    assert "Nothing to be done" in run.snakemake("--dry-run").stdout


def inner_snakemake(job: str) -> psutil.Process | None:
    """The Snakemake inside of the allocation of an arm and seed."""
    for process in psutil.process_iter():
        try:
            inner = any(word.startswith("cell=") for word in process.cmdline())
            if inner and process.environ().get("SLURM_JOB_ID") == job:
                return process
        except psutil.Error:
            continue
    return None


@pytest.mark.usefixtures("slurm")
def test_an_allocation_that_is_cancelled_or_out_of_time_is_continued(local_in_shards: Run, without: Without) -> None:
    """The Snakemake of one arm is stopped until Slurm ends its job, whose limit is a minute in the first attempt."""
    limit = {"runtime": "1 + 29 * (attempt - 1)"}
    run = on_slurm(without(local_in_shards, "grpo", "extra"), "run", cell=limit)
    lose(run)
    with RunningOnSlurm(run) as running:
        slow = running.wait_for_job("cell.*extra")
        iteration = run.results / "extra/s0/iteration_0000"
        until((iteration / "generate.parquet").exists, running)
        until(lambda: inner_snakemake(slow), running).send_signal(signal.SIGSTOP)
        shard = iteration / "shards/generate_0of2.parquet"
        before = shard.stat().st_mtime_ns
        cancelled = run.job("cell.*grpo", "PENDING|RUNNING")
        if cancelled:
            said("scancel", cancelled)
        output = running.finish()
    assert f"'{slow}' failed, SLURM status is: 'TIMEOUT'" in output
    assert "It was out of time. The next attempt gets more, as `runtime` in the profile says" in output
    assert "DUE TO TIME LIMIT" in output
    assert not cancelled or f"'{cancelled}' failed, SLURM status is: 'CANCELLED'" in output
    assert_same_results(run, local_in_shards)
    assert shard.stat().st_mtime_ns == before  # the second attempt went on from the files of the first
    cells = [job for job in run.ended() if "cell" in job.work and "extra" in job.work]
    assert [(job.state, job.limit) for job in cells] == [("TIMEOUT", "1:00"), ("COMPLETED", "30:00")]
    assert overlapping(run.ended()) == []
    assert marker_of(run, "extra/s0")["iteration"] == 1


def started(run: ClusterRun, state: str, count: int) -> Callable[[], list[SlurmJob]]:
    """A condition: that many jobs of iterations are in a state."""

    def enough() -> list[SlurmJob]:
        found = [job for job in run.jobs() if job.state == state and job.work.startswith("iteration")]
        return found if len(found) == count else []

    return enough


def test_a_drained_node_and_a_snakemake_that_is_killed(slurm: Slurm, local: Run, without: Without) -> None:
    """Killed twice: once its jobs wait, because the node is drained, and once they run."""
    if not slurm.ours:
        pytest.skip("the node of a Slurm that others use is not drained")
    run = on_slurm(without(local, "grpo", "extra"), "iteration")
    lose(run)
    # Snakemake's records of these files are of another granularity; a Snakemake that is killed leaves none.
    shutil.rmtree(run.workdir / ".snakemake" / "metadata")
    try:
        said("scontrol", "update", f"nodename={slurm.node}", "state=drain", "reason=test")
        with RunningOnSlurm(run) as running:
            waiting = {job.id for job in until(started(run, "PENDING", 2), running)}
            running.kill_group(signal.SIGKILL)
            running.wait()
        with RunningOnSlurm(run) as running:
            until(lambda: waiting.isdisjoint(job.id for job in run.jobs()), running)
            assert "2 waiting job(s) cancelled." in running.output()
            until(started(run, "PENDING", 2), running)
            said("scontrol", "update", f"nodename={slurm.node}", "state=resume")
            until(started(run, "RUNNING", 2), running)
            running.kill_group(signal.SIGKILL)
            running.wait()
    finally:
        if "drain" in said("sinfo", "--noheader", "--format=%T"):
            said("scontrol", "update", f"nodename={slurm.node}", "state=resume")
    with RunningOnSlurm(run) as running:
        output = running.finish()
    assert ": 2 running one(s) awaited." in output
    assert_same_results(run, local)
    ended = run.ended()
    assert overlapping(ended) == []
    iterations = [job.work for job in ended if job.work.startswith("rule_iteration") and job.state == "COMPLETED"]
    assert len(set(iterations)) == len(iterations) == 4


@pytest.mark.usefixtures("slurm")
def test_ctrl_c_cancels_the_jobs_and_the_command_lists_and_cancels_them(local: Run, without: Without) -> None:
    run = on_slurm(without(local, LAST), "stage", warm=True)
    assert cli(run, "slurm", "jobs", "mini").stdout == "results/mini: no job in the queue.\n"
    with RunningOnSlurm(run, *OF_LAST) as running:
        first = running.wait_for_job("select")
        listed = cli(run, "slurm", "jobs", "mini").stdout
        assert f"  {first} " in listed
        assert "select" in listed
        running.kill_snakemake(signal.SIGINT)
        assert running.wait() != 0
    until(lambda: not run.jobs())
    with RunningOnSlurm(run, *OF_LAST) as running:
        job = running.wait_for_job("generate")
        done = cli(run, "slurm", "cancel", "results/mini")
        assert "may still run" in done.stderr
        assert done.stdout.endswith(
            "1 job(s) cancelled. What is finished is kept: the command of the run goes on from there.\n"
        )
        output = running.finish()
    assert f"'{job}' failed, SLURM status is: 'CANCELLED'" in output
    assert_same_results(run, local)
    assert overlapping(run.ended()) == []


@pytest.mark.usefixtures("slurm")
def test_jobs_of_another_configuration_are_not_awaited(local: Run, without: Without) -> None:
    """The job is suspended, so that it still runs when the next Snakemake starts."""
    run = on_slurm(without(local, LAST), "stage", warm=True)
    with RunningOnSlurm(run, *OF_LAST) as running:
        old = running.wait_for_job("select")
        said("scontrol", "suspend", old)
        running.kill_group(signal.SIGKILL)
        running.wait()
    config = yaml.safe_load(run.config.read_text())
    config["update"]["learning_rate"] = 1e-3
    run.config.write_text(yaml.safe_dump(config))
    with RunningOnSlurm(run, *OF_LAST) as running:
        running.wait_for_job("update.*0000", "PENDING|RUNNING")
        assert "1 running one(s) cancelled, because the configuration has changed" in running.output()
        assert [job.state for job in run.ended() if job.id == old] == ["CANCELLED"]
        running.kill_snakemake(signal.SIGINT)
        assert running.wait() != 0
    until(lambda: not run.jobs())
