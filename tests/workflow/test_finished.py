"""A finished run: every table exists and keeps its contract, and nothing is left to do."""

from __future__ import annotations

import json
from pathlib import Path

import dataframely as dy
import polars as pl
import pytest

from extra_rl.models.policy import resolve
from extra_rl.run.stage import Contract, PolicyDirectory, Stage
from extra_rl.tables import read_table, scan_iteration
from extra_rl.tables.files import read_provenance
from extra_rl.tables.scan import scan_run
from stages import STAGES
from stages.load import load
from tests.conftest import Run

ARMS = ("grpo", "extra")
ITERATIONS = 3
ONCE = ("prepare", "warm_start", "compare")
"""Stages that run once for all arms."""
PER_SOURCE = ("verify", "score_entropy")
"""Stages that run for fresh rollouts and for continuations; their files are named after both."""
LAST = f"iteration_{ITERATIONS - 1:04d}"


def files_of(stage: Stage) -> dict[str, Contract]:
    """File within an iteration's folder -> contract, for the tables that a stage writes there."""
    files: dict[str, Contract] = {}
    for role, contract in stage.writes.items():
        if contract is PolicyDirectory:
            files["policy/manifest.json"] = contract
        elif stage.name in PER_SOURCE:
            files |= {f"{role}_{source}.parquet": contract for source in ("generate", "regenerate")}
        else:
            files[f"{role}.parquet"] = contract
    return files


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("name", [name for name in STAGES if name not in (*ONCE, "evaluate", "audit", "gather")])
def test_every_stage_of_an_iteration_leaves_valid_files(mini_run: Run, arm: str, name: str) -> None:
    for iteration in range(ITERATIONS):
        folder = mini_run.results / arm / "s0" / f"iteration_{iteration:04d}"
        for file, contract in files_of(load(name).STAGE).items():
            check_file(folder / file, contract, f"{arm}/s0/i{iteration}")


def test_files_that_all_arms_share_are_valid(mini_run: Run) -> None:
    results = mini_run.results
    for name, file in (("prepare", "train"), ("prepare", "held_out"), ("prepare", "dropped"), ("prepare", "sources")):
        check_file(results / name / f"{file}.parquet", load(name).STAGE.writes[file], "s0")
    check_file(results / "warm_start" / "warm_start.parquet", load("warm_start").STAGE.writes["warm_start"], "s0")
    check_file(results / "warm_start" / "policy" / "manifest.json", PolicyDirectory, "s0")
    for name in ("compare", "compare_seeds", "compare_differences"):
        check_file(results / f"{name}.parquet", load("compare").STAGE.writes[name], "s0")
    for name, contract in load("evaluate").STAGE.writes.items():
        check_file(results / "warm_start" / f"{name}.parquet", contract, "s0")
        for arm in ARMS:
            check_file(results / arm / "s0" / LAST / f"{name}.parquet", contract, f"{arm}/s0/i{ITERATIONS - 1}")


def check_file(path: Path, contract: Contract, place: str) -> None:
    if issubclass(contract, dy.Schema):
        read_table(path, contract)
        job = read_provenance(path)["job"]
        assert place in (f"s{job['seed']}", f"{job['arm']}/s{job['seed']}/i{job['iteration']}")
    else:
        assert (resolve(path) / "model.safetensors").is_file()


def test_the_run_contains_every_kind_of_iteration(mini_run: Run) -> None:
    """Other tests need updates, continuations, a rescued group, and an iteration after the budget is spent."""
    figures = pl.concat(
        pl.read_parquet(mini_run.results / arm / "s0" / f"iteration_{i:04d}" / "summarize.parquet")
        for arm in ARMS
        for i in range(ITERATIONS)
    )
    assert figures.filter(arm="extra", iteration=1)["regenerated_rollouts"].item() > 0
    assert figures.filter(arm="extra", iteration=1)["rescued_groups"].item() > 0
    assert figures.filter(arm="extra", iteration=ITERATIONS - 1)["rollouts"].item() == 0
    assert figures.filter(arm="grpo", iteration=ITERATIONS - 1)["rollouts"].item() > 0
    assert figures.filter(iteration=0)["steps"].min() > 0


def test_arms_read_the_same_problems(mini_run: Run) -> None:
    first, second = (
        pl.read_parquet(mini_run.results / arm / "s0" / "iteration_0000" / "select.parquet") for arm in ARMS
    )
    assert len(first) == 6
    assert first.select("problem_id", "position").equals(second.select("problem_id", "position"))


def test_a_continuation_has_the_prefix_and_the_problem_of_its_parent(mini_run: Run) -> None:
    folder = mini_run.results / "extra" / "s0" / "iteration_0001"
    guided = scan_iteration(folder).filter(origin="regenerated").collect()
    parents = pl.read_parquet(folder.with_name("iteration_0000") / "generate.parquet")
    answers = dict(pl.read_parquet(mini_run.results / "prepare" / "train.parquet")["problem_id", "answer"].iter_rows())
    joined = guided.join(parents, left_on="parent_rollout_id", right_on="rollout_id", suffix="_parent")
    assert len(joined) == len(guided) > 0
    for row in joined.iter_rows(named=True):
        assert row["problem_id"] == row["problem_id_parent"]
        assert row["gold"] == answers[row["problem_id"]]
        kept = row["prefix_length"]
        assert row["response_tokens"][:kept] == row["response_tokens_parent"][:kept]


def test_summary_is_complete(mini_run: Run) -> None:
    summary = json.loads((mini_run.results / "summary.json").read_text())
    assert set(summary["arms"]) == set(ARMS)
    for figures in (summary["warm_start"], *summary["arms"].values()):
        assert 0 <= figures["pass@1"] <= figures["pass@4"] <= 100
        assert set(figures["benchmarks"]) == {"L1", "L2", "L3", "L4", "L5", "L6"}
        for k in ("pass@1", "pass@4"):
            each = [benchmark[k] for benchmark in figures["benchmarks"].values()]
            assert figures[k] == pytest.approx(sum(each) / len(each), abs=1e-3)
        assert figures["wall_seconds"] > 0
        assert figures["compute_seconds"] > 0
    for arm in ARMS:
        sampled = scan_run(mini_run.results / arm).select("sampled_tokens").sum().collect().item()
        assert summary["arms"][arm]["seeds"] == [0]
        assert summary["arms"][arm]["generated_tokens"] == sampled
        assert sampled >= 1400


def test_nothing_is_left_to_do(mini_run: Run) -> None:
    assert "Nothing to be done" in mini_run.snakemake("--dry-run").stdout


def test_a_run_leaves_only_its_results(mini_run: Run) -> None:
    hidden = {path.name for path in mini_run.results.rglob(".*")}
    assert hidden == {".lock", ".checked.json"}
