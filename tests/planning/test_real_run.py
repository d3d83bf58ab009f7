"""The plan of a small configuration against a finished run of it: rollouts, tokens, disk, jobs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from extra_cli.plan import experiment_of_files
from extra_rl.config.experiment import Experiment
from extra_rl.planning.compute import DECODERS, Speed
from extra_rl.planning.counts import Assumptions
from extra_rl.planning.devices import DEVICES
from extra_rl.planning.plan import plan_of
from tests.conftest import Run, new_run

SPEED = Speed(DEVICES["h100"], 0.4, DECODERS)


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


def experiment(run: Run) -> Experiment:
    return experiment_of_files([run.config], [])


def measured(run: Run) -> Assumptions:
    """What a configuration cannot know, from the run itself."""
    rollouts = pl.read_parquet(run.results / "*/s0/iteration_*/generate.parquet")
    summaries = pl.read_parquet(run.results / "*/s0/iteration_*/summarize.parquet")
    mean = float(rollouts["response_tokens"].list.len().mean())  # type: ignore[arg-type]
    prompt = float(rollouts["prompt_tokens"].list.len().mean())  # type: ignore[arg-type]
    return Assumptions(mean, prompt, summaries["all_wrong"].sum() / summaries["groups"].sum())


@pytest.fixture(scope="module")
def plan(finished: Run) -> dict[str, Any]:
    return plan_of(experiment(finished), measured(finished), SPEED)


def test_fresh_rollouts_are_exact_and_regenerated_ones_bounded(finished: Run, plan: dict[str, Any]) -> None:
    for arm, bound in plan["at_most"]["arms"].items():
        found = pl.read_parquet(finished.results / arm / "s0/iteration_*/generate.parquet")
        assert len(found) == bound["fresh"] == plan["expected"]["arms"][arm]["fresh"]
        again = pl.read_parquet(finished.results / arm / "s0/iteration_*/regenerate.parquet")
        assert len(again) <= bound["regenerated"]
    expected = plan["expected"]["arms"]["extra"]["regenerated"]
    # A hard group whose rollouts have too few places to cut gets fewer prefixes.
    assert 0.5 * expected <= len(again) <= expected


def test_tokens_lie_within_the_bound_and_near_the_expectation(finished: Run, plan: dict[str, Any]) -> None:
    for arm, bound in plan["at_most"]["arms"].items():
        spent = pl.read_parquet(finished.results / arm / "s0/iteration_*/summarize.parquet")["sampled_tokens"].sum()
        assert spent <= bound["sampled_tokens"]
        assert 0.8 < spent / plan["expected"]["arms"][arm]["sampled_tokens"] < 1.25


def test_evaluation_samples_are_exact(finished: Run, plan: dict[str, Any]) -> None:
    found = list(finished.results.rglob("evaluate.parquet"))
    assert len(found) == plan["run"]["evaluations"]
    samples = {len(pl.read_parquet(path)) for path in found}
    assert samples == {plan["expected"]["evaluation"]["samples"]}


def test_disk_is_right_within_a_factor_of_two(finished: Run, plan: dict[str, Any]) -> None:
    for arm, figures in plan["expected"]["arms"].items():
        for iteration in ("iteration_0000", "iteration_0001"):
            folder = finished.results / arm / "s0" / iteration
            tables = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file() and "policy" not in f.parts)
            planned = figures["iteration"]["bytes"]
            in_tables = sum(size for kind, size in planned.items() if kind not in ("weights", "optimizer"))
            evaluated = folder / "evaluate.parquet"
            tables -= sum(f.stat().st_size for f in folder.glob("evaluate*")) if evaluated.is_file() else 0
            assert 0.5 < in_tables / tables < 2
        for name, kind in (("model", "weights"), ("optimizer", "optimizer")):
            size = (folder / "policy" / f"{name}.safetensors").stat().st_size
            assert size == pytest.approx(planned[kind], rel=0.05)


def test_the_dag_has_as_many_jobs(finished: Run, plan: dict[str, Any], tmp_path: Path) -> None:
    elsewhere = Run(tmp_path, finished.config)
    said = elsewhere.snakemake("--dry-run", "--workflow-profile", "none")
    totals = re.findall(r"^total\s+(\d+)$", said.stdout + said.stderr, re.MULTILINE)
    assert int(totals[-1]) == plan["run"]["jobs"]
