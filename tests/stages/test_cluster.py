"""The corrections of the Slurm executor, and what the Snakemake on the login node does before it plans."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from extra_rl.errors import ConfigError, InputError
from extra_rl.run import slurm
from extra_rl.run.configuration import keep_configuration
from stages import cluster


def test_the_states_of_sacct_are_plain() -> None:
    async def query(command: str, logger: Any) -> tuple[Any, float]:
        states = {"1": "CANCELLED by 1000", "2": "COMPLETED", "3": "CANCELLED+", "4": "OUT_OF_ME+", "5": ""}
        return (states if command == "sacct" else None), 0.5

    plain = cluster.with_plain_states(query)
    expected = {"1": "CANCELLED", "2": "COMPLETED", "3": "CANCELLED", "4": "OUT_OF_ME"}
    assert asyncio.run(plain("sacct", None)) == (expected, 0.5)
    assert asyncio.run(plain("fails", None)) == (None, 0.5)


def test_the_queue_is_looked_at_again_soon() -> None:
    async def check(self: Any, active: list[str]) -> Any:
        for job in active:
            yield job
        self.next_seconds_between_status_checks = min(self.next_seconds_between_status_checks + 10, 180)

    settings = SimpleNamespace(init_seconds_before_status_checks=5)
    executor = SimpleNamespace(
        workflow=SimpleNamespace(executor_settings=settings), next_seconds_between_status_checks=5
    )

    async def seconds(looks: int) -> list[int]:
        found = []
        for _ in range(looks):
            assert [job async for job in cluster.with_frequent_polls(check)(executor, ["a", "b"])] == ["a", "b"]
            found.append(executor.next_seconds_between_status_checks)
        return found

    assert asyncio.run(seconds(3)) == [15, 15, 15]


def reported(tmp_path: Path, log: str | None, message: str | None, *, group: bool = False) -> tuple[str, list[int]]:
    """The message of a failed job, and how often its rules may be repeated afterwards."""
    said: list[str] = []
    path = tmp_path / "slurm.log"
    if log is not None:
        path.write_text(log)
    rules = [SimpleNamespace(restart_times=1) for _ in range(2)]
    jobs = [SimpleNamespace(rule=rule, is_group=lambda: False) for rule in rules]
    job = SimpleNamespace(is_group=lambda: True, jobs=jobs) if group else jobs[0]
    report = cluster.with_reasons(lambda self, info, msg=None, **settings: said.append(msg))
    report(None, SimpleNamespace(job=job, aux={"slurm_logfile": path}), msg=message, aux_logs=["x"])
    return said[0], [rule.restart_times for rule in rules]


def test_a_failed_job_says_why(tmp_path: Path) -> None:
    log = "noise\nslurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-11-27T04:00:00 DUE TO TIME LIMIT ***\nmore\n"
    said, times = reported(tmp_path, log, "SLURM-job '7' failed, SLURM status is: 'TIMEOUT'.")
    assert "It was out of time" in said
    assert "DUE TO TIME LIMIT" in said
    assert "noise" not in said
    assert times == [1, 1]
    said, _ = reported(tmp_path, None, "SLURM-job '7' failed, SLURM status is: 'CANCELLED'.")
    assert "not by this Snakemake" in said
    assert reported(tmp_path, "", None)[0] == "\n"


@pytest.mark.parametrize("group", [False, True])
def test_an_error_of_the_user_is_shown_once_and_not_tried_again(tmp_path: Path, group: bool) -> None:
    log = "compare: ConfigError: raise iterations\ncompare: ConfigError: raise iterations\n"
    said, times = reported(tmp_path, log, "SLURM-job '7' failed, SLURM status is: 'FAILED'.", group=group)
    assert said.count("compare: ConfigError: raise iterations") == 1
    assert times == ([0, 0] if group else [0, 1])
    refused = "Job submission failed with exception: The given account nobody appears to be invalid."
    assert reported(tmp_path, None, refused)[1] == [0, 1]
    _, times = reported(tmp_path, "update: InputError: no such file\n", "x")  # may appear on a network file system
    assert times == [1, 1]


def test_an_executor_of_another_version_is_refused_and_one_is_corrected_once() -> None:
    with pytest.raises(ConfigError, match="unknown version"):
        cluster.correct_executor(ModuleType("other"))
    plugin = pytest.importorskip(cluster.EXECUTOR, reason="the plugin for Slurm is not installed")
    names = [(plugin.Executor, name) for name in ("check_active_jobs", "report_job_error", "run_job_pre")]
    names += [(plugin, "query_job_status"), (plugin, "pending_jobs_for_rule")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plugin, "corrected_by_extra", False, raising=False)
        for place, name in names:
            patch.setattr(place, name, getattr(place, name))  # restored at the end
        before = [getattr(place, name) for place, name in names]
        cluster.correct_executor(plugin)
        after = [getattr(place, name) for place, name in names]
        assert all(old is not new for old, new in zip(before, after, strict=True))
        cluster.correct_executor(plugin)
        assert [getattr(place, name) for place, name in names] == after
        assert plugin.pending_jobs_for_rule(None, "generate_shard") == 0


@pytest.mark.parametrize("group", [True, False])
def test_records_of_the_outputs_of_a_submitted_job_are_removed_first(group: bool) -> None:
    done: list[str] = []
    persistence = SimpleNamespace(cleanup_metadata=lambda path: done.append(f"forget {path}"))
    executor = SimpleNamespace(workflow=SimpleNamespace(persistence=persistence))
    jobs = [SimpleNamespace(output=names, is_group=lambda: False) for names in (["a", "b"], ["c"])]
    job = SimpleNamespace(is_group=lambda: True, jobs=jobs) if group else jobs[0]
    cluster.forgetting_records(lambda self, given: done.append("announced"))(executor, job)
    assert done == ["forget a", "forget b", *(["forget c"] if group else []), "announced"]


@pytest.mark.parametrize("same", [True, False])
def test_jobs_of_an_earlier_start_are_cancelled_or_awaited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], same: bool
) -> None:
    jobs = [slurm.SlurmJob(str(n), state, "", "", "", "", "") for n, state in enumerate(("RUNNING", "PENDING"))]
    calls: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(slurm, "jobs_of", lambda results: jobs)
    monkeypatch.setattr(slurm, "cancel", lambda results, given: calls.append(("cancel", [job.id for job in given])))
    monkeypatch.setattr(slurm, "wait", lambda results, say: calls.append(("wait", [])))
    keep_configuration({"name": "a", "seeds": [0]}, tmp_path)
    cluster.take_over(tmp_path, {"name": "a", "seeds": [0] if same else [1]})
    assert calls == [("cancel", ["1"] if same else ["0", "1"]), ("wait", [])]
    said = capsys.readouterr().err
    assert "2 job(s) of the previous start" in said
    assert ("awaited" in said) == same
    assert ("the configuration has changed" in said) != same


def test_jobs_read_the_frozen_configuration(tmp_path: Path) -> None:
    settings = SimpleNamespace(configfiles=[Path("mine.yaml")], config_args=["name=x", "arms=grpo", "iterations=5"])
    cluster.freeze(SimpleNamespace(config_settings=settings), tmp_path)
    assert settings.configfiles == [tmp_path / "configuration.yaml"]
    assert settings.config_args == ["arms=grpo"]


def test_a_bare_error_with_its_details_is_a_reason_and_not_tried_again(tmp_path: Path) -> None:
    log = "x\nConfigError: the run cannot start:\n  task.judge: bad:judge has the parameter gold\ncell: ExtraError: y\n"
    said, times = reported(tmp_path, log, "SLURM-job '7' failed, SLURM status is: 'FAILED'." + cluster.UNSAID)
    assert "ConfigError: the run cannot start:\n    task.judge: bad:judge has the parameter gold" in said
    assert cluster.UNSAID not in said
    assert times == [0, 1]
    (tmp_path / "b").mkdir()
    said, times = reported(tmp_path / "b", None, "invalid partition specified: x\n    sbatch call:\n        sbatch")
    assert said.strip() == "invalid partition specified: x"
    assert times == [0, 1]


def test_ctrl_c_while_jobs_are_awaited_says_that_they_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(slurm, "jobs_of", lambda results: [slurm.SlurmJob("7", "RUNNING", "", "", "", "", "")])
    monkeypatch.setattr(slurm, "wait", interrupted)
    keep_configuration({"name": "a"}, tmp_path)
    with pytest.raises(SystemExit) as end:
        cluster.take_over(tmp_path, {"name": "a"})
    assert end.value.code == 130
    assert "Interrupted. Jobs that run go on: `extra slurm jobs" in capsys.readouterr().err


def test_a_run_on_this_machine_is_refused_while_its_jobs_are_in_the_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [slurm.SlurmJob("7", "RUNNING", "", "", "", "", "")]
    monkeypatch.setattr(slurm, "jobs_of", lambda results: jobs)
    monkeypatch.setattr(cluster.shutil, "which", lambda name: "/usr/bin/squeue")
    cluster.refuse_other_writers(tmp_path)  # was never submitted to Slurm
    (tmp_path / cluster.SUBMITTED).touch()
    with pytest.raises(InputError, match=r"1 job\(s\) of an earlier start are in Slurm's queue, 7 for example"):
        cluster.refuse_other_writers(tmp_path)
    jobs.clear()
    cluster.refuse_other_writers(tmp_path)
