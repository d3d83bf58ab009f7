"""config/qwen3-1.7b.yaml, with a small random Qwen3 instead of the weights: the same code path, from the training
file and the chat template to the evaluation tables, over all problems of the six benchmarks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from extra_cli.main import main
from extra_rl.config.arms import merge
from extra_rl.tables import scan_run
from tests.conftest import ROOT, Run
from tests.evaluation.models import small_model

DATA = os.environ.get("EXTRA_TEST_DATA")
COUNTS = {"aime24": 30, "aime25": 30, "amc23": 40, "math500": 500, "minerva": 272, "olympiadbench": 675}
POSITIONS = 8192


def smaller(config: dict[str, Any], model: Path, folder: str) -> dict[str, Any]:
    """The paper's configuration in a size for a CPU, sampled by transformers; otherwise unchanged."""
    return merge(
        config,
        {
            "iterations": 2,
            "evaluate_every": 0,
            "compute": {"threads": 1, "device": "cpu"},
            "model": {"source": str(model), "context_tokens": POSITIONS},
            "task": {"folder": folder, "train": {"dapo_math_17k": {"limit": 300}}},
            "sampling": {"backend": "transformers", "max_response_tokens": 24, "batch_rows": 12},
            "verifier": {"workers": 2},
            "select": {"prompts": 3},
            "choose_prefixes": {"warmup_iterations": 0, "min_tokens": 4},
            "evaluate": {"samples": 1, "max_response_tokens": 4},
            "compare": {"ks": [1]},
        },
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    if not DATA:
        pytest.skip("EXTRA_TEST_DATA is not set: no real problems to read (CI sets it)")
    workdir = tmp_path_factory.mktemp("paper")
    model = small_model(workdir / "model", positions=POSITIONS)
    config = yaml.safe_load((ROOT / "config" / "qwen3-1.7b.yaml").read_text())
    path = workdir / "config.yaml"
    path.write_text(yaml.safe_dump(smaller(config, model, DATA)))
    run = Run(workdir, path)
    run.snakemake()
    return run


def test_every_problem_of_the_six_benchmarks_is_evaluated(run: Run) -> None:
    for file in sorted(run.results.glob("**/evaluate.parquet")):
        samples = pl.read_parquet(file)
        assert dict(samples.group_by("benchmark").len().iter_rows()) == COUNTS
        figures = pl.read_parquet(file.with_name("evaluate_figures.parquet")).filter(metric="pass_at_k")
        assert set(figures["benchmark"]) == {*COUNTS, "mean"}


def test_prompts_are_the_chat_template_without_thinking(run: Run) -> None:
    held_out = pl.read_parquet(run.results / "prepare" / "held_out.parquet")
    problem = pl.read_parquet(Path(str(DATA)) / "benchmarks" / "aime24.parquet").row(0, named=True)
    row = held_out.row(by_predicate=pl.col("problem_id") == f"aime24/{problem['id']}", named=True)
    instruction = "\nPlease reason step by step, and put your final answer within \\boxed{}."
    assert row["prompt"] == (
        f"<|im_start|>user\n{problem['problem']}{instruction}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )
    samples = pl.read_parquet(run.results / "warm_start" / "evaluate.parquet")
    sent = samples.row(by_predicate=pl.col("problem_id") == row["problem_id"], named=True)
    assert sent["prompt_tokens"] == row["prompt_tokens"]


def test_minerva_alone_has_a_relative_tolerance(run: Run) -> None:
    held_out = pl.read_parquet(run.results / "prepare" / "held_out.parquet")
    tolerant = held_out.filter(pl.col("relative_tolerance") > 0)
    assert tolerant["relative_tolerance"].unique().to_list() == [0.01]
    assert dict(tolerant.group_by("benchmark").len().iter_rows()) == {"minerva": COUNTS["minerva"]}


def test_training_problems_were_cleaned_and_answered_in_every_arm(run: Run) -> None:
    train = pl.read_parquet(run.results / "prepare" / "train.parquet")
    dropped = pl.read_parquet(run.results / "prepare" / "dropped.parquet")
    assert len(train) + len(dropped) == 300
    assert (dropped["rule"] == "overlap").any()
    rollouts = scan_run(run.results).collect()
    assert set(rollouts["arm"]) == {"grpo", "extra", "published"}
    assert set(rollouts["problem_id"]) <= set(train["problem_id"])
    sizes = rollouts.filter(origin="fresh").group_by("group_id").len()
    assert set(sizes["len"]) == {6}
    guided = rollouts.filter(origin="regenerated")
    assert set(guided["arm"]) == {"extra", "published"}


def test_the_command_line_finds_the_samples_of_the_run(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run.workdir)
    policy = sorted(run.results.glob("extra/s0/iteration_*/policy"))[-1]
    assert main(["evaluate", str(policy), "--config", str(run.config), "--out", "again"]) == 0
    said = capsys.readouterr().out
    assert f"{sum(COUNTS.values()):,} of {sum(COUNTS.values()):,} samples are cached" in said
    judged = ["problem_id", "response", "verdict", "rule"]
    again = pl.read_parquet(run.workdir / "again" / "evaluate.parquet").select(judged)
    assert again.equals(pl.read_parquet(policy.parent / "evaluate.parquet").select(judged))
