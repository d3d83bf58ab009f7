"""The calibrated rate of a plan, from the records of finished iterations, by hand."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from extra_rl.errors import InputError
from extra_rl.planning.plan import plan_of, time_of
from extra_rl.planning.rate import Rate, measured
from tests.planning.test_counts import experiment


def iteration(folder: Path, seconds: dict[str, float], tokens: int) -> Path:
    """A finished iteration of two rollouts with `tokens` in total."""
    folder.mkdir(parents=True)
    lengths = [tokens // 2, tokens - tokens // 2] if tokens else []
    rows = pl.DataFrame({"response_tokens": [[7] * n for n in lengths]}, schema={"response_tokens": pl.List(pl.Int32)})
    rows.write_parquet(folder / "generate.parquet")
    rows.clear().write_parquet(folder / "regenerate.parquet")
    pl.DataFrame({"iteration": [0]}).write_parquet(folder / "summarize.parquet")
    for stage, wall in seconds.items():
        record = {"stage": stage, "wall_s": wall, "inputs": {}}
        (folder / f"{stage}.run.json").write_text(json.dumps(record))
    return folder


def test_the_rate_is_seconds_per_token_over_all_iterations_with_rollouts(tmp_path: Path) -> None:
    iteration(tmp_path / "grpo/s0/iteration_0000", {"generate": 4.0, "update": 2.0}, 20)
    last = iteration(tmp_path / "grpo/s0/iteration_0001", {"generate": 6.0, "update": 3.0, "evaluate": 9.0}, 40)
    pl.DataFrame({"response_tokens": [[1] * 10] * 3}).write_parquet(last / "evaluate.parquet")
    iteration(tmp_path / "grpo/s0/iteration_0002", {"generate": 0.1}, 0)  # after the budget
    # 15 seconds for 60 tokens of 4 rollouts; an evaluation of 9 seconds for 30 tokens of 3 samples
    assert measured(tmp_path) == Rate(2, 15.0, 0.25, 10.0, 0.3)
    assert measured(tmp_path / "grpo" / "s0") == measured(tmp_path)
    assert measured(last) == Rate(1, 20.0, 9 / 40, 10.0, 0.3)
    assert measured(tmp_path / "grpo/s0/iteration_0000") == Rate(1, 10.0, 0.3)
    assert Rate(1, 10.0, 0.5, 10.0, 0.25).hours(3600, 7200) == 1.0


def test_without_an_iteration_there_is_an_error(tmp_path: Path) -> None:
    iteration(tmp_path / "grpo/s0/iteration_0000", {}, 0)
    with pytest.raises(InputError, match="no finished iteration with rollouts"):
        measured(tmp_path)


def test_hours_are_the_rate_times_the_tokens_of_all_arms_and_seeds() -> None:
    """Five iterations of 40 rollouts per seed: of 15 tokens as measured, of 60 at the limit."""
    made = experiment(seeds=[0, 1])
    plan = plan_of(made)
    hours = time_of(Rate(1, 15.0, 0.2), made, plan)["hours"]
    assert hours == pytest.approx({"expected": 2 * 5 * 40 * 15 * 0.2 / 3600, "at_most": 2 * 5 * 40 * 60 * 0.2 / 3600})
    evaluated = time_of(Rate(1, 15.0, 0.2, 8.0, 0.1), made, plan)["hours"]
    samples = plan["run"]["evaluations"] * plan["evaluation"]["samples"]
    assert samples > 0
    assert evaluated["expected"] - hours["expected"] == pytest.approx(samples * 8 * 0.1 / 3600)


def test_a_token_budget_ends_the_run() -> None:
    made = experiment(select={"token_budget": 600})
    hours = time_of(Rate(1, 15.0, 0.2), made, plan_of(made))["hours"]
    assert hours["expected"] == pytest.approx((600 + 40 * 15) * 0.2 / 3600)
