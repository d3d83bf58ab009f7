"""What `extra watch` points out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from extra_rl.results import iteration_name
from extra_rl.watch.notes import Note, notes_of
from extra_rl.watch.state import Follower
from tests.watch.folders import NOW, finish, lock, log, make


def notes(root: Path, **options: Any) -> list[Note]:
    return notes_of(Follower(root).look(NOW), **options)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make(tmp_path / "run")


def test_a_healthy_run_has_none(root: Path) -> None:
    for number in range(8):
        finish(root, "grpo/s0", number)
    lock(root)
    assert notes(root) == []


def test_no_signal_over_three_iterations(root: Path) -> None:
    dry = {"mixed": 0, "all_incorrect": 9, "all_correct": 1, "rescued_groups": 0}
    finish(root, "grpo/s0", 0)
    for number in (1, 2):
        finish(root, "grpo/s0", number, **dry)
    assert notes(root) == []
    finish(root, "grpo/s0", 3, **dry)
    (note,) = notes(root)
    assert note.place == "grpo/s0/i3"
    assert "no signal for 3 iterations: 27 groups all incorrect, 3 all correct" in note.text
    finish(root, "grpo/s0", 3, **{**dry, "rescued_groups": 1})
    assert notes(root) == []


def test_rollouts_cut_off(root: Path) -> None:
    finish(root, "grpo/s0", 0, rollouts=40, truncated=8)
    assert notes(root) == []
    finish(root, "grpo/s0", 0, rollouts=40, truncated=9)
    assert [note.text[:3] for note in notes(root)] == ["22%"]


def test_falling_entropy(root: Path) -> None:
    for number in range(6):
        finish(root, "grpo/s0", number, mean_entropy=0.9 if number < 3 else 0.45)
    assert notes(root) == []
    finish(root, "grpo/s0", 5, mean_entropy=0.3)
    (note,) = notes(root)
    assert note.text.startswith("the entropy fell from 0.9 to 0.4 nats")


def test_a_mismatch_of_sampler_and_policy(root: Path) -> None:
    finish(root, "grpo/s0", 0, mismatch_mean=0.5, mismatch_max_ratio=9.0, mismatch_kl=0.1)
    assert [note.place for note in notes(root) if "tolerance 0.01" in note.text] == ["grpo/s0/i0"]


def test_a_failed_job_comes_first_and_names_its_log(root: Path) -> None:
    finish(root, "grpo/s0", 0, rollouts=40, truncated=40)
    file = log(root / "grpo" / "s0" / iteration_name(1), "update", "NumericalError: the loss is not finite.")
    lock(root)
    first, second = notes(root)
    assert first == Note(
        "grpo/s0/i1 update", f"failed: NumericalError: the loss is not finite. Log: {file}", error=True
    )
    assert not second.error


def test_standstill_of_a_run_that_still_runs(root: Path) -> None:
    finish(root, "grpo/s0", 0, at=NOW - 660)
    lock(root)
    assert [note.place for note in notes(root, standstill=10)] == ["run"]
    assert notes(root, standstill=12) == []
    log(root / "grpo" / "s0" / iteration_name(1), "generate", "  rollouts 1/9", at=NOW - 5)
    assert notes(root, standstill=10) == []


def test_a_stopped_run(root: Path) -> None:
    finish(root, "grpo/s0", 0, at=NOW - 60)
    lock(root, process=2**22 + 1)
    assert [note.text for note in notes(root) if "its process ended" in note.text] != []


def test_columns_that_an_older_version_did_not_write_are_unknown(root: Path) -> None:
    import polars as pl

    file = finish(root, "grpo/s0", 0) / "summarize.parquet"
    pl.read_parquet(file).select("arm", "seed", "iteration", "rollouts", "groups", "mixed").write_parquet(file)
    os.utime(file, (NOW, NOW))
    assert notes(root) == []
