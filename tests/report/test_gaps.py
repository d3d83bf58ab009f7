"""Readers say which iterations they leave out because a table is gone."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from extra_cli.show import lines_of
from extra_rl.report.sources import find
from extra_rl.results import RunFolder
from extra_rl.tables import contracts, scan_run, write_table
from tests.report.results_folder import write_iteration
from tests.stages.rows import group, tables_of

RUN = "extra/s0"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for number in range(4):
        write_iteration(tmp_path / RUN / f"iteration_{number:04d}", "extra", 0, number)
        table = tables_of(group("rw"))["generate"]
        write_table(table, tmp_path / RUN / f"iteration_{number:04d}" / "generate.parquet", contracts.Rollouts, {})
    return tmp_path


def remove(results: Path, name: str, *numbers: int) -> None:
    for number in numbers:
        (results / RUN / f"iteration_{number:04d}" / f"{name}.parquet").unlink()


def test_an_iteration_that_is_not_finished_is_no_gap(results: Path) -> None:
    run = RunFolder(results / RUN)
    remove(results, "summarize", 3)
    assert run.gaps("summarize") == []
    remove(results, "summarize", 0, 1)
    assert run.gaps("summarize") == [0, 1]


def test_the_report_and_show_name_the_iterations_they_leave_out(results: Path) -> None:
    assert "left out" not in " ".join(find(results).missing())
    remove(results, "summarize", 1, 2)
    said = "extra/s0: summarize.parquet of iteration 1, 2 is gone, so these are left out."
    assert said in find(results).missing()
    note = next(line for line in lines_of(results) if line.startswith("NOTE: "))
    assert "summarize.parquet of iteration 1, 2 is gone; `extra check " in note


def test_the_joined_view_warns_of_them(results: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scan_run(results)
    remove(results, "generate", 2)
    with pytest.warns(UserWarning, match=r"these iterations are left out: .*iteration_0002"):
        scan_run(results)
