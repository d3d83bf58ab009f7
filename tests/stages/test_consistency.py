"""The check of a planned run, on plans made by hand: which jobs it looks at, and when."""

from __future__ import annotations

import errno
import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from extra_rl.errors import InputError
from stages.consistency import check, check_when_planned, mend_times
from tests.run.small_run import expected_job, small_run


class Plan:
    """Snakemake's DAG as far as the check reads it: one level a job, each after the one before."""

    def __init__(self, *jobs: Any, to_run: tuple[Any, ...] = ()) -> None:
        self._jobs, self._to_run = jobs, to_run
        self.dependencies = {job: jobs[:i][-1:] for i, job in enumerate(jobs)}

    def toposorted(self) -> list[list[Any]]:
        return [[job] for job in self._jobs]

    def needrun(self, job: Any) -> bool:
        return job in self._to_run


class Job:
    """A job of Snakemake's."""

    def __init__(self, output: list[Path], **params: str) -> None:
        self.input: list[str] = []
        self.output, self.params, self.rule = list(map(str, output)), params, SimpleNamespace(params=params)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return small_run(tmp_path / "results" / "small")


@pytest.fixture
def update(results: Path) -> list[Path]:
    folder = results / "extra" / "s0" / "iteration_0000"
    return [folder / "update.parquet", folder / "policy" / "manifest.json"]


def changed(path: Path) -> str:
    by = expected_job(path)
    return json.dumps(by | {"config": by["config"] | {"learning_rate": 0.5}})


def test_a_seed_that_starts_from_another_initial_policy_is_refused(results: Path) -> None:
    path = results / "extra" / "s0" / "iteration_0000" / "generate.parquet"
    by = Job([path], job=json.dumps(expected_job(path)))
    by.input = [f"{results}/warm_start/policy/manifest.json"]
    check(Plan(by), results)
    by.input = [f"{results}/warm_start_7/policy/manifest.json"]
    with pytest.raises(InputError, match="made from the initial policy s0/policy, now s7/policy"):
        check(Plan(by), results)


def test_a_kept_job_is_compared_and_one_that_runs_is_not(results: Path, update: list[Path]) -> None:
    same, other = Job(update, job=json.dumps(expected_job(update[0]))), Job(update, job=changed(update[0]))
    check(Plan(same), results)
    check(Plan(other, to_run=(other,)), results)
    with pytest.raises(InputError, match=r"update\.learning_rate: 0\.0003, now 0\.5"):
        check(Plan(other), results)


def test_an_iteration_in_one_job_is_compared_stage_by_stage(results: Path, update: list[Path]) -> None:
    verify = update[0].with_name("verify_generate.parquet")
    jobs = {"update": expected_job(update[0]), "verify": expected_job(verify)}
    check(Plan(Job([verify, *update], jobs=json.dumps(jobs))), results)
    jobs["verify"] |= {"version": 7}
    with pytest.raises(InputError, match="version of the stage verify: 1, now 7"):
        check(Plan(Job([verify, *update], jobs=json.dumps(jobs))), results)


def test_other_rules_and_other_folders_are_left_alone(results: Path, update: list[Path], tmp_path: Path) -> None:
    report = Job([results / "report.html"])
    foreign = Job([tmp_path / "elsewhere" / "update.parquet"], job=changed(update[0]))
    check(Plan(report, foreign), results)


def test_a_missing_output_is_noted_and_no_fault(
    results: Path, update: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    update[0].unlink()
    check(Plan(Job(update, job=json.dumps(expected_job(update[1])))), results)
    assert "NOTE: 1 file(s) of finished stages are missing." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("main", "executor", "dry", "calls"),
    [
        (True, "local", False, ["prepare", "times", "build", "check"]),
        (True, "dryrun", True, ["build", "check"]),
        (False, "local", False, ["build"]),
        (True, None, False, ["build"]),
    ],
)
def test_only_the_main_process_of_a_run_checks(
    monkeypatch: pytest.MonkeyPatch, main: bool, executor: str | None, dry: bool, calls: list[str]
) -> None:
    """Not the process of a job on a cluster, and no command that lists or deletes files. A dry run changes no times."""
    called: list[str] = []
    monkeypatch.setattr("stages.consistency.check", lambda dag, results: called.append("check"))
    monkeypatch.setattr("stages.consistency.mend_times", lambda results: called.append("times"))
    workflow = SimpleNamespace(
        _build_dag=lambda: called.append("build"),
        is_main_process=main,
        executor_plugin=executor,
        dag=None,
        dryrun=dry,
    )
    check_when_planned(workflow, "results/small", lambda: called.append("prepare"), list)
    workflow._build_dag()
    assert called == calls


def test_times_of_the_future_are_mended_with_a_note_or_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "table.parquet"
    path.touch()
    mend_times(tmp_path)
    assert capsys.readouterr().err == ""
    os.utime(path, (time.time() + 7200,) * 2)
    mend_times(tmp_path)
    assert capsys.readouterr().err.startswith(f"NOTE: 1 file(s) of {tmp_path} had times in the future")
    os.utime(path, (time.time() + 7200,) * 2)

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(path))

    monkeypatch.setattr("extra_rl.run.clock.os.utime", refused)
    with pytest.raises(InputError, match=r"table\.parquet: its time lies in the future and cannot be set"):
        mend_times(tmp_path)
