"""The plan of a small configuration against a finished run of it: rollouts, tokens, disk, jobs."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from extra_cli.plan import experiment_of_files
from extra_rl.config.experiment import Experiment
from extra_rl.planning import counts
from extra_rl.planning.disk import table_bytes
from extra_rl.planning.plan import plan_of, time_of
from extra_rl.planning.rate import measured
from extra_rl.planning.shapes import Shape
from tests.conftest import Run, new_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two iterations of both arms without a token budget, every hard group continued in the same iteration."""
    run = new_run(
        tmp_path_factory.mktemp("planned"),
        iterations=2,
        select={"prompts": 12, "token_budget": None},
        arms={"grpo": {}, "extra": {"preset": "prototype", "choose_prefixes": {"when": "same_iteration"}}},
    )
    run.snakemake()
    return run


@pytest.fixture(scope="module")
def experiment(finished: Run) -> Experiment:
    return experiment_of_files([finished.config], [])


@pytest.fixture(scope="module")
def plan(experiment: Experiment) -> dict[str, Any]:
    return plan_of(experiment)


def test_fresh_rollouts_are_exact_and_continuations_tokens_and_flop_bounded(
    finished: Run, plan: dict[str, Any]
) -> None:
    for arm, bound in plan["arms"].items():
        found = pl.read_parquet(finished.results / arm / "s0/iteration_*/generate.parquet")
        assert len(found) == bound["fresh"]
        again = pl.read_parquet(finished.results / arm / "s0/iteration_*/regenerate.parquet")
        assert len(again) <= bound["regenerated"]
        summaries = pl.read_parquet(finished.results / arm / "s0/iteration_*/summarize.parquet")
        assert 0 < summaries["sampled_tokens"].sum() <= bound["sampled_tokens"]
        assert 0 < summaries["compute"].sum() <= bound["flop"]
    assert len(again) > 0


def test_parameters_and_evaluation_samples_are_exact(finished: Run, plan: dict[str, Any]) -> None:
    manifest = json.loads((finished.results / "extra/s0/iteration_0001/policy/manifest.json").read_text())
    assert manifest["weights"] == plan["model"]["parameters"]
    found = list(finished.results.rglob("evaluate.parquet"))
    assert len(found) == plan["run"]["evaluations"]
    assert {len(pl.read_parquet(path)) for path in found} == {plan["evaluation"]["samples"]}


def test_disk_is_correct_within_a_factor_of_two(finished: Run, experiment: Experiment, plan: dict[str, Any]) -> None:
    """With the run's own rollouts and lengths instead of the bound."""
    for arm, sections in experiment.arms.items():
        for iteration in (0, 1):
            folder = finished.results / arm / "s0" / f"iteration_{iteration:04d}"
            found = pl.read_parquet(folder / "summarize.parquet").row(0, named=True)
            rows = pl.read_parquet(folder / "generate.parquet")
            lengths = float(rows["response_tokens"].list.len().mean())  # type: ignore[arg-type]
            prompt = float(rows["prompt_tokens"].list.len().mean())  # type: ignore[arg-type]
            bound = counts.at_most(sections)
            rollouts = replace(
                bound,
                groups=found["all_incorrect"],
                continued=min(bound.continued, found["all_incorrect"]),
                regenerated=found["regenerated_rollouts"],
                response=lengths,
                prefix=bound.prefix * lengths / bound.response,
            )
            shape = Shape(**plan["model"]["shape"])
            planned = sum(table_bytes(sections, shape, rollouts, prompt, 10**9, iteration).values())
            tables = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file() and "policy" not in f.parts)
            tables -= sum(f.stat().st_size for f in folder.glob("evaluate*"))
            assert 0.5 < planned / tables < 2
        for name, kind in (("model", "weights"), ("optimizer", "optimizer")):
            size = (folder / "policy" / f"{name}.safetensors").stat().st_size
            assert size == pytest.approx(plan["arms"][arm]["iteration"]["bytes"][kind], rel=0.05)


def test_hours_from_a_run_are_near_its_own(finished: Run, experiment: Experiment, plan: dict[str, Any]) -> None:
    """The same configuration: its own seconds, up to the continuations that the bound has in addition."""
    rate = measured(finished.results)
    assert rate.iterations == 4  # two of each arm
    records = [json.loads(file.read_text()) for file in finished.results.glob("*/s*/iteration_*/*.run.json")]
    taken = sum(record["wall_s"] for record in records) / 3600
    hours = time_of(rate, experiment, plan)["hours"]
    assert 0.99 * taken <= hours["expected"] < 2 * taken
    assert hours["expected"] <= hours["at_most"]


def test_the_dag_has_the_planned_jobs(finished: Run, plan: dict[str, Any], tmp_path: Path) -> None:
    elsewhere = Run(tmp_path, finished.config)
    said = elsewhere.snakemake("--dry-run", "--workflow-profile", "none")
    totals = re.findall(r"^total\s+(\d+)$", said.stdout + said.stderr, re.MULTILINE)
    assert int(totals[-1]) == plan["run"]["jobs"]
