"""The Slurm jobs of a run, from what squeue prints. A real Slurm is asked in tests/slurm."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from extra_rl.errors import InputError
from extra_rl.run import slurm


def squeue(folder: Path, *lines: str, status: int = 0) -> None:
    """Put commands named like Slurm's into a folder; scancel removes the lines of the jobs that it is given."""
    folder.mkdir(exist_ok=True)
    (folder / "queue").write_text("".join(f"{line}\n" for line in lines))
    (folder / "squeue").write_text(
        f'#!/bin/sh\ncat {folder}/queue\n[ {status} = 0 ] || echo "no contact" >&2\nexit {status}\n'
    )
    (folder / "scancel").write_text(
        f'#!/bin/sh\necho "$@" >> {folder}/cancelled\nfor id in "$@"; do sed -i "/^$id|/d" {folder}/queue; done\n'
    )
    for name in ("squeue", "scancel"):
        (folder / name).chmod((folder / name).stat().st_mode | stat.S_IXUSR)


def line(identifier: str, state: str, name: str, work: str = "rule_generate_wildcards_grpo_0_0001") -> str:
    nodes, reason = ("node1", "None") if state == "RUNNING" else ("", "Priority")
    return f"{identifier}|{state}|1:02|20:00|{nodes}|{name}|{reason}|{work}"


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    (tmp_path / "results" / "tiny").mkdir(parents=True)
    return tmp_path / "results" / "tiny"


def test_the_prefix_is_a_name_that_the_executor_accepts_and_that_no_other_checkout_has(tmp_path: Path) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,50}", slurm.prefix_of(tmp_path / ("Long.name+" * 10)))
    assert slurm.prefix_of(tmp_path / "a" / "x") != slurm.prefix_of(tmp_path / "b" / "x")


def test_only_the_jobs_of_the_run_are_found_in_the_order_of_their_ids(results: Path, tmp_path: Path) -> None:
    name = slurm.prefix_of(results)
    squeue(
        tmp_path / "bin",
        line("100", "PENDING", f"{name}_uuid"),
        line("9_[2-4]", "PENDING", f"{name}_uuid", "rule_generate_shard_wildcards_grpo_0_0001_0of4"),
        line("12", "RUNNING", f"{name}_other"),
        line("13", "RUNNING", f"{name}longer_uuid"),
        line("14", "RUNNING", "bash", "a comment | with | bars"),
    )
    found = slurm.jobs_of(results)
    assert [(job.id, job.waits) for job in found] == [("9_[2-4]", True), ("12", False), ("100", True)]
    assert found[0].work == "generate_shard (task of an array)"
    assert found[1].work == "generate grpo_0_0001"
    assert "RUNNING" in found[1].line()
    assert "node1" in found[1].line()
    assert "Priority" in found[2].line()


def test_cancel_names_the_given_jobs_alone(results: Path, tmp_path: Path) -> None:
    name = slurm.prefix_of(results)
    squeue(tmp_path / "bin", *(line(str(number), "RUNNING", f"{name}_u") for number in (1, 2, 3)))
    slurm.cancel(results, slurm.jobs_of(results)[:2])
    assert (tmp_path / "bin" / "cancelled").read_text().split() == ["1", "2"]
    assert [job.id for job in slurm.jobs_of(results)] == ["3"]
    slurm.cancel(results, [])
    assert len((tmp_path / "bin" / "cancelled").read_text().splitlines()) == 1


def test_wait_cancels_what_waits_and_awaits_what_runs(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = slurm.prefix_of(results)
    squeue(tmp_path / "bin", line("1", "PENDING", f"{name}_u"), line("2", "RUNNING", f"{name}_u"))
    said: list[str] = []

    def later(_: float) -> None:  # job 2 ends at the second look
        if said:
            (tmp_path / "bin" / "queue").write_text("")

    monkeypatch.setattr(slurm.time, "sleep", later)
    slurm.wait(results, said.append)
    assert (tmp_path / "bin" / "cancelled").read_text().split() == ["1"]
    assert len(said) == 1
    assert said[0].startswith("waiting for 1 job(s)")
    assert "  2 " in said[0]


def test_without_slurm_and_with_one_that_does_not_answer(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm.time, "sleep", lambda _: None)
    squeue(tmp_path / "bin", status=1)
    with pytest.raises(InputError, match="squeue: Slurm does not answer \\(no contact\\)"):
        slurm.jobs_of(results)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(InputError, match="squeue: not found"):
        slurm.jobs_of(results)
