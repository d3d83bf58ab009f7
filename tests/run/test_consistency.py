"""What a run refuses before its first job: files of another configuration, place or ancestry."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from extra_rl.run.consistency import Findings, Kept, compare, message
from extra_rl.run.identity import has_identity
from tests.run.small_run import TABLE, expected_job, flip_bit, put, small_run, swap

FLOW = ("train", "manifest", "generate", "verify_generate", "update")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return small_run(tmp_path / "results" / "small")


def in_flow(results: Path) -> Iterator[Path]:
    """The files of the small run, each after those that it is made from."""
    names = ("generate.parquet", "verify_generate.parquet", "update.parquet", "policy/manifest.json")
    yield results / "prepare" / "train.parquet"
    yield results / "warm_start" / "policy" / "manifest.json"
    for folder in sorted(results.glob("*/s0/iteration_*")):
        yield from (folder / name for name in names)


def kept(results: Path, expected: Path) -> list[Kept]:
    """The files of a run with the jobs that another folder's configuration gives; each reads the one before it."""
    files, previous = [], ()
    for path in in_flow(results):
        by = expected_job(expected / path.relative_to(results))
        files.append(Kept(path, {by["stage"]: by}, previous))
        previous = (path,)
    return files


def found(results: Path, expected: Path | None = None) -> Findings:
    return compare(results, kept(results, expected or results))


def test_files_of_today_s_configuration_are_taken(results: Path) -> None:
    assert {path for path in results.rglob("*") if has_identity(path)} == set(in_flow(results))
    assert found(results).reasons == {}


def test_another_learning_rate_is_named_with_both_values_and_the_first_file(results: Path, tmp_path: Path) -> None:
    other = small_run(tmp_path / "results" / "other", learning_rate=3e-2)
    findings = found(results, other)
    (reason,) = findings.reasons
    assert reason == "update.learning_rate: 0.0003, now 0.03"
    assert len(findings.reasons[reason]) == 8  # update and policy, two arms, two iterations
    assert list(findings.first) == [results / "extra" / "s0" / "iteration_0000" / "update.parquet"]
    said = message(results, findings, "snakemake --cores 2")
    assert "8 file(s)" in said
    assert f"snakemake --cores 2 --forcerun {next(iter(findings.first))}" in said


def test_another_initial_policy_is_named(results: Path) -> None:
    """A seed's job does not say which policy it starts from: that follows from its place in `seeds`."""
    files = [dataclasses.replace(one, starts=frozenset(["s7/policy"])) for one in kept(results, results)]
    findings = compare(results, [one for one in files if one.path.stem == "generate"])
    first = [results / arm / "s0" / "iteration_0000" / "generate.parquet" for arm in ("extra", "grpo")]
    assert findings.reasons == {"made from the initial policy s0/policy, now s7/policy": first}
    assert list(findings.first) == first
    same = [dataclasses.replace(one, starts=frozenset(["s0/policy"])) for one in kept(results, results)]
    assert compare(results, same).reasons == {}


def test_tables_swapped_between_arms_seeds_or_iterations_are_named(results: Path) -> None:
    iterations = [results / arm / "s0" / "iteration_0000" for arm in ("extra", "grpo")]
    expected = kept(results, results)
    swap(*(folder / "verify_generate.parquet" for folder in iterations))
    findings = compare(results, expected)
    assert set(findings.reasons) == {
        "grpo/s0/i0/verify_generate by its footer, which belongs elsewhere",
        "extra/s0/i0/verify_generate by its footer, which belongs elsewhere",
    }


def test_a_table_older_than_its_neighbours_is_named(results: Path) -> None:
    """Same job, other rows: a copy of another attempt."""
    path = results / "extra" / "s0" / "iteration_0000" / "generate.parquet"
    put(path, "extra/s0/i0/generate", expected_job(path), results / "prepare" / "train.parquet", rows=2)
    assert {reason: [p.name for p in paths] for reason, paths in found(results).reasons.items()} == {
        "made from another version of extra/s0/i0/generate than lies there now": [
            "verify_generate.parquet",
            "generate.parquet",  # of the next iteration
        ]
    }


@pytest.mark.parametrize("fault", ["cut", "plain", "manifest"])
def test_what_cannot_be_read_is_named(results: Path, fault: str) -> None:
    folder = results / "grpo" / "s0" / "iteration_0001"
    expected = kept(results, results)
    if fault == "cut":
        (folder / "update.parquet").write_bytes(b"PAR1")
    elif fault == "plain":
        TABLE.write_parquet(folder / "update.parquet")
    else:
        (folder / "policy" / "manifest.json").write_text("{}")
    (reason,) = compare(results, expected).reasons
    assert reason.startswith({"cut": "not a readable", "plain": "no stage wrote it", "manifest": "not a policy"}[fault])


def test_rows_are_not_read(results: Path) -> None:
    """The footers alone are compared: the damage of a page is found by its reader and by `extra check`."""
    path = results / "extra" / "s0" / "iteration_0000" / "generate.parquet"
    flip_bit(path, 0.02)
    assert found(results).reasons == {}
