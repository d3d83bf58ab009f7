"""A user's task with weighted numbers in the real workflow: rewards by hand, edits, and a judge that fails."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from extra_cli.main import main
from tests.conftest import ROOT, Run, copy_of, new_run

pytestmark = pytest.mark.slow
VERIFIED = "results/judged/grpo/s0/iteration_0000/verify_generate.parquet"
LEVELS = {"short": 12, "long": 12}


@pytest.fixture(scope="module")
def own_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One iteration of the task that `extra new task` writes, with all numbers weighted."""
    run = new_run(
        tmp_path_factory.mktemp("own") / "run",
        iterations=1,
        task={"name": "sorting:Sorting"},
        prepare={"train_per_level": LEVELS, "tuning_per_level": 2, "final_per_level": 2},
        select={"prompts": 6, "level_weights": {}, "token_budget": None},
        sampling={"max_response_tokens": 24},
        verify={"weights": {"correct": 1, "in_place": 0.5, "length": -0.001}},
        evaluate={"samples": 4, "max_response_tokens": 24},
    )
    changed(run, lambda config: config["arms"].pop("extra"))
    assert main(["new", "task", "sorting", "--to", str(run.workdir)]) == 0
    run.snakemake()
    return run


def changed(run: Run, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the run's configuration."""
    config = yaml.safe_load(run.config.read_text())
    change(config)
    run.config.write_text(yaml.safe_dump(config, sort_keys=False))


def planned(run: Run) -> set[str]:
    """The rules that Snakemake would run."""
    lines = run.snakemake("--dry-run", "--quiet", "progress").stdout.splitlines()
    return {line.split()[1].rstrip(":") for line in lines if line.startswith("rule ")}


def test_numbers_weights_and_advantages(own_run: Run) -> None:
    here = own_run.results / "grpo" / "s0" / "iteration_0000"
    rows = pl.read_parquet(here / "generate.parquet").join(
        pl.read_parquet(here / "verify_generate.parquet"), on="rollout_id"
    )
    assert len(rows) == 24
    seen = 0
    for row in rows.iter_rows(named=True):
        expected, given = row["gold"].split(), row["response"].split()
        length = len(row["response_tokens"])
        numbers = {n["name"]: n["value"] for n in row["numbers"]}
        if not given:
            assert row["verdict"] in ("no_answer", "truncated")
            assert numbers == {"correct": 0, "length": length}
            assert row["reward"] == pytest.approx(-0.001 * length, abs=1e-6)
            continue
        share = sum(a == b for a, b in zip(expected, given, strict=False)) / max(len(expected), len(given))
        correct = float(expected == given)
        assert numbers == pytest.approx({"correct": correct, "in_place": share, "length": length})
        assert row["reward"] == pytest.approx(correct + 0.5 * share - 0.001 * length, abs=1e-6)
        seen += 1
    assert seen
    advantages = pl.read_parquet(here / "advantage.parquet")
    differ = advantages.group_by("advantage_group").agg(
        differ=pl.col("reward").n_unique() > 1, signal=(pl.col("advantage") != 0).any()
    )
    assert differ["differ"].to_list() == differ["signal"].to_list()
    summary = pl.read_parquet(here / "summarize.parquet").row(0, named=True)
    means = {n["name"]: n["value"] for n in summary["mean_numbers"]}
    assert means["length"] == pytest.approx(rows["response_tokens"].list.len().mean())
    assert f"length {means['length']:.3g}" in (here / "logs" / "summarize.log").read_text()
    problems = pl.read_parquet(own_run.results / "prepare" / "train.parquet")
    assert problems["benchmark"].value_counts().sort("benchmark")["count"].to_list() == [12, 12]


def test_an_edit_of_the_file_runs_what_depends_on_it(own_run: Run, tmp_path: Path) -> None:
    run = copy_of(own_run, tmp_path / "copy")
    assert planned(run) == set()
    file = run.workdir / "sorting.py"
    file.write_text(file.read_text() + "\n# edited\n")
    assert {"prepare", "verify", "advantage"} <= planned(run)


def test_a_judge_that_fails_everywhere_stops_the_run_and_its_correction_continues_it(
    own_run: Run, tmp_path: Path
) -> None:
    run = copy_of(own_run, tmp_path / "copy")
    judge = {"name": "judged", "task": {"name": "sorting:Sorting", "judge": "mine:score"}}
    changed(run, lambda config: config.update(judge, verify={"weights": {"correct": 1}}))
    mine = run.workdir / "mine.py"
    mine.write_text("def score(response, problem):\n    if ':' in problem: raise ValueError(problem)\n    return 1\n")
    broken = run.snakemake(VERIFIED, check=False)
    assert broken.returncode != 0
    assert "24 of 24 responses could not be judged by mine:score (error 24)" in broken.stdout + broken.stderr
    made = (run.workdir / VERIFIED).with_name("generate.parquet")
    sampled = made.stat().st_mtime_ns
    mine.write_text("def score(response):\n    return len(response.split()) / 100\n")
    run.snakemake(VERIFIED)
    assert made.stat().st_mtime_ns == sampled
    rows = pl.read_parquet(made).join(pl.read_parquet(made.with_name("verify_generate.parquet")), on="rollout_id")
    assert set(rows["verdict"]) == {"wrong"}
    assert {n["name"] for row in rows["numbers"] for n in row} == {"score", "correct"}
    assert rows["reward"].to_list() == [0.0] * 24
    mine.write_text("")
    refused = run.snakemake("--dry-run", check=False)
    assert refused.returncode == 2
    assert "mine.py defines no score" in refused.stderr


def test_an_example_runs_to_its_end(tmp_path: Path) -> None:
    """Problems from a file whose reference answers are no mathematics, with the judge of the documentation."""
    folder = tmp_path / "copy"
    shutil.copytree(ROOT / "examples" / "rewards", folder, ignore=shutil.ignore_patterns("results", ".snakemake"))
    run = Run(folder, folder / "json_key.yaml")
    run.snakemake()
    here = run.results / "grpo" / "s0" / "iteration_0000"
    rows = pl.read_parquet(here / "verify_generate.parquet")
    assert len(rows) == 12
    assert {n["name"] for row in rows["numbers"] for n in row} == {"correct", "json", "key", "length"}
    assert set(rows["gold"]) == {"George Eliot", "Jupiter", "1440"}
    assert rows["reward"].n_unique() > 1  # by their lengths
    assert (run.results / "report.html").is_file()
