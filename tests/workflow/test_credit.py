"""Other advantages and credit by token, in a real run: what is stored, scored, trained on, and shown."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from extra_cli.main import main
from tests.conftest import Run, new_run

pytestmark = pytest.mark.slow

CHEAP: dict[str, Any] = {"score_entropy": {"rows": "signal"}}
ARMS: dict[str, Any] = {
    "grpo": {},
    "maxrl": {"advantage": {"normalise": "mean"}},
    "passed": {"advantage": {"normalise": "pass_at_k", "k": 2}},
    "zvp": {**CHEAP, "advantage": {"zero_variance_weight": 0.1}},
    "segment": {
        **CHEAP,
        "preset": "regeneration",
        "advantage": {"group": "own", "credit": "segment", "prefix_loss": "trained", "normalise": "mean_only"},
    },
}
ITERATIONS = 2


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    made = new_run(
        tmp_path_factory.mktemp("credit"),
        iterations=ITERATIONS,
        granularity="iteration",
        select={"token_budget": None},
        arms=ARMS,
    )
    made.snakemake()
    return made


def table(run: Run, arm: str, iteration: int, name: str) -> pl.DataFrame:
    return pl.read_parquet(run.results / arm / "s0" / f"iteration_{iteration:04d}" / f"{name}.parquet")


def advantages(run: Run, arm: str, iteration: int) -> pl.DataFrame:
    """With rollout_id without its arm, and the rewards' mean m of the group."""
    rows = table(run, arm, iteration, "advantage")
    mean = pl.col("reward").mean().over("advantage_group")
    return rows.with_columns(pl.col("rollout_id").str.replace("^[a-z]+/", ""), m=mean)


def test_all_arms_sample_the_same_first_iteration_and_differ_in_its_advantages(run: Run) -> None:
    grpo = advantages(run, "grpo", 0)
    for arm in ("maxrl", "passed", "zvp", "segment"):
        rows = advantages(run, arm, 0)
        assert rows["rollout_id"].equals(grpo["rollout_id"])
        assert rows["reward"].equals(grpo["reward"])
        assert not rows["advantage"].equals(grpo["advantage"])


def test_maxrl_is_the_deviation_divided_by_the_mean(run: Run) -> None:
    rows = advantages(run, "maxrl", 0).filter(pl.col("m") > 0)
    assert len(rows)
    expected = (rows["reward"] - rows["m"]) / rows["m"]
    assert rows["advantage"].to_list() == pytest.approx(expected.to_list(), abs=1e-5)


def test_every_group_of_equal_rewards_has_an_entropy_signal_and_is_scored(run: Run) -> None:
    for iteration in range(ITERATIONS):
        rows = table(run, "zvp", iteration, "advantage")
        equal = rows.filter(pl.col("reward").n_unique().over("advantage_group") == 1)
        assert len(equal)
        assert equal["token_advantages"].null_count() == 0
        assert rows["token_advantages"].null_count() == len(rows) - len(equal)
        scores = table(run, "zvp", iteration, "score_entropy_generate")
        joined = equal.join(scores, on="rollout_id").with_columns(
            total=pl.col("token_advantages").list.sum(), entropy=pl.col("entropies").list.sum()
        )
        right = joined.filter(group_type="all_correct")
        assert right["total"].to_list() == pytest.approx((0.1 * right["entropy"]).to_list(), rel=1e-4, abs=1e-6)
        wrong = joined.filter(group_type="all_incorrect")
        assert (wrong["token_advantages"].list.max() <= 0).all()
        trained = rows.filter(trained="trained")
        assert table(run, "zvp", iteration, "update")["signal_rows"].sum() == len(trained)


def test_segments_give_prefixes_their_value(run: Run) -> None:
    rows = table(run, "segment", 1, "advantage").join(
        table(run, "segment", 1, "generate").select("rollout_id", "prefix_id", "prefix_length", "origin"),
        on="rollout_id",
    )
    continued = rows.filter(origin="regenerated")
    assert len(continued)
    assert continued["advantage_group"].str.ends_with("/segments").all()
    value = continued.group_by("prefix_id").agg(value=pl.col("reward").mean())
    found = continued.filter(pl.col("prefix_length") > 0).join(value, on="prefix_id")
    # All parents failed (max_pass_rate 0): V(prompt) is 0.
    first = found["token_advantages"].list.first().to_list()
    assert first == pytest.approx(found["value"].to_list(), abs=1e-6)
    assert rows.filter(origin="fresh")["token_advantages"].null_count() == (rows["origin"] == "fresh").sum()


def test_a_rollout_with_advantages_by_token_is_explained(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    rows = table(run, "zvp", 0, "advantage").filter(pl.col("token_advantages").is_not_null(), trained="trained")
    assert main(["explain", rows["rollout_id"][0], "--results", str(run.results)]) == 0
    assert "= mean over its tokens" in capsys.readouterr().out
