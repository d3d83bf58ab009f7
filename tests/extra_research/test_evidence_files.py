"""Evidence files: reading, the files of earlier packers, merging, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from extra_research.contracts import EvidenceRuns
from extra_research.evidence import Evidence, empty, merge, merged, normalised, paths_of, read, write
from extra_rl.errors import ContractError, InputError


def counts(folder: str, seed: int, correct: list[int], benchmark: str = "A", n: int = 4) -> pl.DataFrame:
    """Counts of a run; problem ids descend, so that sorting by them would change their order."""
    rows = [(folder, seed, benchmark, f"{benchmark}/{9 - place}", n, c) for place, c in enumerate(correct)]
    return pl.DataFrame(rows, ["folder", "seed", "benchmark", "problem_id", "n", "c"], orient="row")


def run(folder: str, seed: int, **values: Any) -> dict[str, Any]:
    zeros = dict.fromkeys(EvidenceRuns.columns(), 0)
    unknown = dict.fromkeys(("machine", "experiment", "idle_cpu_s", "device_s"))
    return {**zeros, **unknown, "folder": folder, "seed": seed, **values}


def evidence(*tables: pl.DataFrame, runs: list[dict[str, Any]]) -> Evidence:
    schema = EvidenceRuns.create_empty().schema
    return normalised(pl.concat(tables), pl.DataFrame(runs, schema, strict=False))


def one(seed: int, correct: list[int], **values: Any) -> Evidence:
    return evidence(counts("grpo", seed, correct), runs=[run("grpo", seed, **values)])


def test_files_are_sorted_by_run_keep_the_order_of_problems_and_are_small(tmp_path: Path) -> None:
    tables = [counts("b", 1, [1, 2]), counts("a", 2, [3, 4]), counts("warm_start", -1, [0, 1])]
    found = evidence(*tables, runs=[run("b", 1, cpu_s=1.23456), run("a", 2)])
    write(found, tmp_path / "new" / "name")
    assert [path.name for path in paths_of(tmp_path / "new" / "name")] == ["name_counts.parquet", "name_runs.parquet"]
    again = read(tmp_path / "new" / "name")
    assert again.counts.equals(found.counts)
    assert again.runs.equals(found.runs)
    assert again.counts["folder"].to_list() == ["a", "a", "b", "b", "warm_start", "warm_start"]
    assert again.counts["problem_id"].to_list() == ["A/9", "A/8"] * 3
    assert again.counts["c"].to_list() == [3, 4, 1, 2, 0, 1]
    assert again.counts.schema["n"] == again.counts.schema["c"] == pl.Int16
    assert again.runs["cpu_s"].to_list() == [0.0, 1.235]
    plain = pl.read_parquet(tmp_path / "new" / "name_counts.parquet")  # any reader
    assert plain.equals(found.counts)


def test_files_of_an_earlier_packer_are_read(tmp_path: Path) -> None:
    """They have other integer types, a further column, and lack those that may be null."""
    found = one(3, [1, 2], cpu_s=2.0)
    old = found.counts.cast({"seed": pl.Int32}).select("benchmark", "problem_id", "n", "c", "folder", "seed")
    old.write_parquet(tmp_path / "old_counts.parquet")
    runs = found.runs.drop("machine", "idle_cpu_s", "device_s").with_columns(wall_s=pl.lit(1.0))
    runs.write_parquet(tmp_path / "old_runs.parquet")
    again = read(tmp_path / "old")
    assert again.counts.equals(found.counts)
    assert again.runs.equals(found.runs)
    assert again.runs.select("machine", "idle_cpu_s", "device_s").row(0) == (None, None, None)


def test_a_file_that_lacks_a_column_or_a_run_is_refused(tmp_path: Path) -> None:
    found = one(3, [1, 2])
    write(found, tmp_path / "name")
    found.runs.drop("steps").write_parquet(tmp_path / "name_runs.parquet")
    with pytest.raises(ContractError, match="has no column"):
        read(tmp_path / "name")
    found.runs.clear().write_parquet(tmp_path / "name_runs.parquet")
    with pytest.raises(InputError, match=r"name_runs.parquet lacks grpo/s3"):
        read(tmp_path / "name")
    (tmp_path / "name_runs.parquet").unlink()
    with pytest.raises(InputError, match=r"name_runs.parquet: no such file"):
        read(tmp_path / "name")


def test_more_correct_than_judged_samples_are_refused() -> None:
    with pytest.raises(ContractError, match="correct_ones_are_judged"):
        one(0, [5])


def test_a_merge_adds_and_keeps() -> None:
    found = merge(one(0, [1, 2]), one(1, [2, 3]))
    assert found.evidence.runs["seed"].to_list() == [0, 1]
    assert found.evidence.counts["c"].to_list() == [1, 2, 2, 3]
    assert found.added.rows() == [("grpo", 1)]
    assert found.replaced.is_empty()
    assert merge(empty(), one(0, [1])).evidence.counts.equals(one(0, [1]).counts)


def test_equal_runs_are_merged_and_what_one_side_knows_is_kept() -> None:
    named = one(0, [1], machine="two cores", cpu_s=1.0)
    measured = one(0, [1], idle_cpu_s=0.5, cpu_s=1.0)
    for old, new in ((named, measured), (measured, named)):
        found = merge(old, new)
        assert found.added.is_empty()
        assert found.replaced.is_empty()
        assert found.evidence.runs.select("machine", "cpu_s", "idle_cpu_s").rows() == [("two cores", 1.0, 0.5)]


@pytest.mark.parametrize("other", [one(0, [1, 3]), one(0, [1, 2], machine="a", cpu_s=2.0)], ids=["counts", "seconds"])
def test_other_values_are_an_error_unless_replaced(other: Evidence) -> None:
    old = merge(one(0, [1, 2], machine="b", idle_cpu_s=3.0), one(1, [4, 4])).evidence
    with pytest.raises(InputError, match=r"grpo/s0 already exists in the files with other values\. Add --replace"):
        merge(old, other)
    found = merge(old, other, replace=True)
    assert found.replaced.rows() == [("grpo", 0)]
    assert found.evidence.counts.filter(seed=0).equals(other.counts)
    assert found.evidence.runs.filter(seed=0).equals(other.runs)  # nothing of the previous run, as its idle seconds
    assert found.evidence.counts.filter(seed=1)["c"].to_list() == [4, 4]


def test_another_warm_start_of_the_same_number_is_an_error() -> None:
    old, new = (evidence(counts("warm_start_30", -1, [c]), runs=[]) for c in (1, 2))
    with pytest.raises(InputError, match=r"warm_start_30 already exists .*Another machine trains another initial"):
        merge(old, new)


@pytest.mark.parametrize(
    "other",
    [counts("grpo", 1, [1, 2, 3]), counts("grpo", 1, [1, 2], benchmark="B"), counts("grpo", 1, [1, 2]).reverse()],
    ids=["more", "other", "order"],
)
def test_runs_of_other_problems_are_refused(other: pl.DataFrame) -> None:
    new = evidence(other, runs=[run("grpo", 1)])
    with pytest.raises(InputError, match=r"grpo/s1 was evaluated on other problems than grpo/s0"):
        merge(one(0, [1, 2]), new, replace=True)


def test_several_sources_are_one() -> None:
    found = merged([("x", one(0, [1])), ("y", one(2, [2])), ("z", one(1, [3]))])
    assert found.counts.select("seed", "c").rows() == [(0, 1), (1, 3), (2, 2)]
    with pytest.raises(InputError, match=r"grpo/s0 already exists in x, y with other values"):
        merged([("x", one(0, [1])), ("y", one(2, [2])), ("z", one(0, [3]))])
