"""Seconds of a plan from the records of finished iterations, by hand."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from extra_rl.errors import InputError
from extra_rl.planning.plan import hours_at, hours_from, plan_of
from extra_rl.planning.rate import measured
from tests.planning.test_counts import experiment


def iteration(folder: Path, seconds: dict[str, float], tokens: int, flop: float | None = 1e9) -> Path:
    """A finished iteration of two rollouts with so many tokens in all."""
    folder.mkdir(parents=True)
    lengths = [tokens // 2, tokens - tokens // 2] if tokens else []
    rows = pl.DataFrame({"response_tokens": [[7] * n for n in lengths]}, schema={"response_tokens": pl.List(pl.Int32)})
    rows.write_parquet(folder / "generate.parquet")
    rows.clear().write_parquet(folder / "regenerate.parquet")
    pl.DataFrame({"compute": [flop]}, schema={"compute": pl.Float64}).write_parquet(folder / "summarize.parquet")
    for stage, wall in seconds.items():
        record = {"stage": stage, "wall_s": wall, "inputs": {}}
        (folder / f"{stage}.run.json").write_text(json.dumps(record))
    return folder


def test_means_over_iterations_that_sampled(tmp_path: Path) -> None:
    iteration(tmp_path / "grpo/s0/iteration_0000", {"generate": 4.0, "update": 2.0}, 20)
    last = iteration(tmp_path / "grpo/s0/iteration_0001", {"generate": 6.0, "update": 2.0, "evaluate": 9.0}, 40)
    pl.DataFrame({"response_tokens": [[1] * 10] * 3}).write_parquet(last / "evaluate.parquet")
    iteration(tmp_path / "grpo/s0/iteration_0002", {"generate": 0.1}, 0)  # the budget was spent
    iteration(tmp_path / "extra/s0/iteration_0000", {"generate": 50.0}, 10, flop=None)
    found = measured(tmp_path, ["grpo", "extra", "another"])
    grpo = found["grpo"]
    assert (grpo.iterations, grpo.rows, grpo.tokens, grpo.flop) == (2, 2, 30, 1e9)
    assert grpo.seconds == {"generate": 5.0, "update": 2.0}
    assert grpo.iteration_seconds(60) == {"generate": 10.0, "update": 4.0}
    assert (grpo.evaluation_mean, grpo.evaluation_seconds(60)) == (10, 18.0)
    assert (found["extra"].tokens, found["extra"].flop, found["extra"].evaluation_seconds(60)) == (10, 0, 0)
    assert found["another"].iterations == 3  # of all arms
    assert measured(tmp_path / "grpo" / "s0", ["a"])["a"] == measured(last.parent, ["grpo"])["grpo"] == grpo
    assert measured(last, ["a"])["a"].seconds == {"generate": 6.0, "update": 2.0}


def test_without_an_iteration_there_is_an_error(tmp_path: Path) -> None:
    iteration(tmp_path / "grpo/s0/iteration_0000", {}, 0)
    with pytest.raises(InputError, match="no finished iteration with rollouts"):
        measured(tmp_path, ["grpo"])


def test_seconds_are_scaled_by_tokens(tmp_path: Path) -> None:
    """40 rollouts in the place of 2 of 15 tokens: 20 times the seconds at that length, 80 times at the limit of 60."""
    iteration(tmp_path / "grpo/s0/iteration_0000", {"generate": 4.0, "update": 2.0}, 30)
    made = experiment(seeds=[0, 1])
    plan = plan_of(made)
    found = hours_from(measured(tmp_path, made.arms), made, plan)
    arm = found["arms"]["grpo"]
    assert arm["expected"]["iteration_seconds"] == {"generate": 80.0, "update": 40.0}
    assert arm["at_most"]["iteration_seconds"] == {"generate": 320.0, "update": 160.0}
    assert arm["at_most"]["hours"] == pytest.approx(5 * 480 / 3600)
    assert found["hours"]["expected"] == pytest.approx(2 * 5 * 120 / 3600)


def test_budgets_end_the_run(tmp_path: Path) -> None:
    iteration(tmp_path / "grpo/s0/iteration_0000", {"generate": 6.0}, 30, flop=5.0)
    for select, seconds in (({"compute_budget": 15.0}, 4 * 6), ({"token_budget": 600}, 120 * 2)):
        made = experiment(select=select)
        found = hours_from(measured(tmp_path, made.arms), made, plan_of(made))
        assert found["arms"]["grpo"]["expected"]["hours"] == pytest.approx(seconds / 3600)


def test_a_rate_divides_the_tokens() -> None:
    plan = plan_of(experiment())
    assert hours_at(10.0, plan)["hours"]["at_most"] == pytest.approx(plan["total"]["sampled_tokens"] / 36_000)
