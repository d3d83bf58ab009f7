"""Mathematics problems with a random model through the workflow: all groups incorrect, all verdicts reproducible."""

from __future__ import annotations

import json
import os
from pathlib import Path

import polars as pl
import pytest
import yaml

from extra_rl.tables import scan_run
from mathjudge import Item, MathJudge, Policy
from tests.conftest import ROOT, Run

DATA = os.environ.get("EXTRA_TEST_DATA")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    if not DATA:
        pytest.skip("EXTRA_TEST_DATA is not set: no real problems to read (CI sets it)")
    workdir = tmp_path_factory.mktemp("math")
    config = yaml.safe_load((ROOT / "config" / "math_smoke.yaml").read_text())
    benchmarks = Path(DATA) / "benchmarks"
    config["task"]["train"]["path"] = str(benchmarks / "gsm8k_test.parquet")
    config["task"]["benchmarks"]["math500"]["path"] = str(benchmarks / "math500.parquet")
    path = workdir / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    run = Run(workdir, path)
    run.snakemake()
    return run


def test_it_ends_with_a_table(run: Run) -> None:
    summary = json.loads((run.results / "summary.json").read_text())
    assert set(summary["arms"]) == {"grpo", "extra", "published"}
    assert set(summary["warm_start"]["benchmarks"]) == {"math500"}
    assert all(summary["arms"][arm]["pass@1"] == 0 for arm in summary["arms"])


def test_every_group_is_incorrect_and_is_continued(run: Run) -> None:
    for arm in ("extra", "published"):
        rows = pl.concat([pl.read_parquet(f) for f in sorted(run.results.glob(f"{arm}/s0/*/summarize.parquet"))])
        assert (rows["all_wrong"] == rows["groups"]).all()
        assert rows["prefixes_chosen"].min() > 0
        assert rows["regenerated_rollouts"].to_list()[1] > 0
    rows = pl.read_parquet(run.results / "grpo/s0/iteration_0001/summarize.parquet")
    assert rows["regenerated_rollouts"].item() == 0


def test_every_verdict_follows_from_the_saved_text(run: Run) -> None:
    """Judging the saved text again, alone and in this process, gives the saved verdict, answer and rule."""
    judge = MathJudge(Policy())
    rollouts = scan_run(run.results).collect()
    assert len(rollouts) > 100
    for row in rollouts.iter_rows(named=True):
        judgement = judge(Item(row["gold"], row["response"], truncated=row["finish_reason"] == "length"))
        assert (judgement.verdict.value, judgement.extracted, judgement.rule) == (
            row["verdict"],
            row["extracted"],
            row["rule"],
        ), row["rollout_id"]
        if row["verdict"] == "right":
            pytest.fail(f"a random model cannot be right: {row['rollout_id']} {row['response']!r}")
        if row["extracted"] is not None and row["verdict"] == "wrong":
            assert row["reward"] == 0


def test_a_continuation_keeps_its_parents_problem_and_its_own_answer(run: Run) -> None:
    train = pl.read_parquet(run.results / "prepare" / "train.parquet").select("problem_id", "answer")
    rollouts = scan_run(run.results / "extra").join(train.lazy(), on="problem_id", how="left").collect()
    assert (rollouts["gold"] == rollouts["answer"]).all()
    children = rollouts.filter(pl.col("origin") == "regenerated")
    parents = rollouts.select(
        parent_rollout_id="rollout_id", parent_problem="problem_id", parent_tokens="response_tokens"
    )
    pairs = children.join(parents, on="parent_rollout_id")
    assert len(pairs) == len(children) > 0
    assert (pairs["problem_id"] == pairs["parent_problem"]).all()
    for row in pairs.iter_rows(named=True):
        length = row["prefix_length"]
        assert row["response_tokens"][:length] == row["parent_tokens"][:length]
