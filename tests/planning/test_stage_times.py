"""Seconds of planned stages from records, by hand: scaling by tokens, shards, arms, what was not measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from extra_rl.errors import InputError
from extra_rl.planning.stage_times import (
    evaluation_tokens,
    planned_tokens,
    rows_of,
    stage_times,
    tokens_of,
    warm_start_seconds,
)
from tests.planning.test_counts import experiment, sections
from tests.planning.test_rate import iteration

CONTINUED = {"groups": 3, "prefixes_per_problem": 2, "continuations_per_prefix": 2, "when": "same_iteration"}
"""At most 3 x 2 x 2 continuations an iteration."""


def rollouts(folder: Path, table: str, lengths: list[int]) -> None:
    rows = pl.DataFrame({"response_tokens": [[7] * n for n in lengths]}, schema={"response_tokens": pl.List(pl.Int32)})
    rows.write_parquet(folder / f"{table}.parquet")


def record(path: Path, seconds: float, opening: float = 0.0, stage: str = "", **more: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figures = {"opening_s": opening} if opening else {}
    found = {"stage": stage or path.name.split(".")[0], "wall_s": seconds, "inputs": {}, "figures": figures, **more}
    path.write_text(json.dumps(found))


def test_seconds_are_scaled_by_the_tokens_of_the_table(tmp_path: Path) -> None:
    """Two iterations of 20 and 40 tokens: 12 s for 60 tokens; nothing is continued."""
    for number, tokens in enumerate((20, 40)):
        found = {"generate": tokens / 5, "regenerate": 0.5, "update": 1.0}
        iteration(tmp_path / f"grpo/s0/iteration_{number:04d}", found, tokens)
    times = stage_times(tmp_path)
    assert times.seconds("generate", 100.0, "grpo") == pytest.approx(20.0)
    assert times.seconds("update", 30.0, "grpo") == pytest.approx(1.0)  # 2 s for 60 tokens
    assert times.seconds("regenerate", 0.0, "grpo") == 0.5
    assert times.mean_tokens("generate", "grpo") == 15.0
    assert times.every.iterations == 2
    assert times.unmeasured == ["prepare", "compare", "report"]
    with pytest.raises(InputError, match="no finished iteration below it has a time of the stage regenerate"):
        times.seconds("regenerate", 10.0, "grpo")


def test_the_start_of_a_sampler_is_not_scaled(tmp_path: Path) -> None:
    folder = iteration(tmp_path / "grpo/s0/iteration_0000", {}, 20)
    record(folder / "generate.run.json", 10.0, opening=4.0)
    times = stage_times(tmp_path)
    assert times.seconds("generate", 20.0, "grpo") == 10.0
    assert times.seconds("generate", 60.0, "grpo") == 4.0 + 3 * 6.0
    assert times.seconds("generate", 60.0, "grpo", shards=3) == 4.0 + 6.0  # each shard opens a sampler


def test_measured_shards_are_added_up(tmp_path: Path) -> None:
    """Two shards of 5 and 7 s, of which 2 s each opened a sampler: 8 s of work."""
    folder = iteration(tmp_path / "grpo/s0/iteration_0000", {}, 20)
    tables = {f"shard:{n}of2": str(folder / f"shards/generate_{n}of2.parquet") for n in (0, 1)}
    record(folder / "generate.run.json", 0.25, stage="gather")
    made = json.loads((folder / "generate.run.json").read_text()) | {"inputs": tables}
    (folder / "generate.run.json").write_text(json.dumps(made))
    for number, seconds in ((0, 5.0), (1, 7.0)):
        record(folder / f"shards/generate_{number}of2.run.json", seconds, opening=2.0, stage="generate")
    times = stage_times(tmp_path)
    assert times.seconds("generate", 20.0, "grpo") == 2.0 + 8.0
    assert times.seconds("generate", 20.0, "grpo", shards=4) == 2.0 + 2.0
    assert times.seconds("gather_generate", 20.0, "grpo") == 0.25


def test_an_arm_has_its_own_times_and_a_new_one_the_mean(tmp_path: Path) -> None:
    iteration(tmp_path / "a/s0/iteration_0000", {"generate": 2.0}, 10)
    iteration(tmp_path / "b/s0/iteration_0000", {"generate": 6.0}, 10)
    times = stage_times(tmp_path)
    assert [times.seconds("generate", 10.0, arm) for arm in ("a", "b", "new")] == [2.0, 6.0, 4.0]


def test_stages_that_run_once_are_read_next_to_the_iterations(tmp_path: Path) -> None:
    folder = iteration(tmp_path / "run/grpo/s0/iteration_0000", {"generate": 1.0}, 10)
    record(tmp_path / "run/prepare/train.run.json", 3.0, stage="prepare")
    start = tmp_path / "run/warm_start"
    job = json.dumps({"stage": "warm_start", "config": {"steps": 50, "stop_at": 40, "batch": 8}})
    record(start / "warm_start.run.json", 20.0, job=job)
    record(start / "evaluate.run.json", 5.0, opening=1.0)
    rollouts(start, "evaluate", [10, 30])
    times = stage_times(folder)  # one iteration
    assert (times.seconds("prepare", 0.0), times.seconds("compare", 0.0), times.unmeasured) == (
        3.0,
        0.0,
        ["compare", "report"],
    )
    assert times.seconds("evaluate", 80.0) == 1.0 + 8.0
    assert warm_start_seconds(times, {"warm_start": {"stop_at": 80, "batch": 4}}) == 20.0
    assert warm_start_seconds(times, {"warm_start": {"stop_at": 80, "batch": 8}}) == 40.0
    assert warm_start_seconds(times, {"warm_start": {"stop_at": 0, "batch": 8}}) == 20.0
    # 3 samples of 54 problems, 20 tokens each as measured
    made = experiment(prepare={"final_per_level": 9}, evaluate={"samples": 3}, compare={"ks": [1]})
    assert evaluation_tokens(times, made) == 3 * 54 * 20


def test_without_a_warm_start_there_is_an_error(tmp_path: Path) -> None:
    iteration(tmp_path / "grpo/s0/iteration_0000", {"generate": 1.0}, 10)
    with pytest.raises(InputError, match="no record of warm_start next to"):
        warm_start_seconds(stage_times(tmp_path), {"warm_start": {}})
    with pytest.raises(InputError, match="no finished iteration with rollouts"):
        stage_times(tmp_path / "nothing")


def test_where_continuations_are_sampled() -> None:
    same = sections(choose_prefixes={**CONTINUED, "warmup_iterations": 2})
    assert [rows_of(same, number)["regenerate"] for number in (1, 2)] == [0, 12]
    queued = sections(choose_prefixes={**CONTINUED, "when": "next_iteration"})
    assert [rows_of(queued, number) for number in (0, 1)] == [
        {"generate": 40, "regenerate": 0},
        {"generate": 52, "regenerate": 0},
    ]


def test_tokens_of_a_stage() -> None:
    tokens = {"generate": 100.0, "regenerate": 7.0}
    names = ("generate", "verify_generate", "choose_prefixes", "regenerate", "gather_regenerate", "update", "select")
    assert [tokens_of(name, tokens) for name in names] == [100, 100, 100, 7, 7, 107, 107]


def test_a_plan_has_the_measured_share_of_continuations(tmp_path: Path) -> None:
    """Measured: 6 of at most 12 continuations, of 5 tokens; planned: at most 24."""
    folder = iteration(tmp_path / "grpo/s0/iteration_0000", {"update": 1.0}, 0)
    rollouts(folder, "generate", [10] * 40)
    rollouts(folder, "regenerate", [5] * 6)
    measured = sections(choose_prefixes=CONTINUED)
    for stage in ("select", "generate", "choose_prefixes"):
        record(folder / f"{stage}.run.json", 1.0, job=json.dumps({"stage": stage, "config": measured[stage]}))
    times = stage_times(tmp_path)
    assert times.share("regenerate", "grpo") == 0.5
    planned = experiment(choose_prefixes={**CONTINUED, "continuations_per_prefix": 4, "warmup_iterations": 3})
    found = list(planned_tokens(times, planned, "grpo"))
    assert found[2:4] == [{"generate": 400, "regenerate": 0}, {"generate": 400, "regenerate": 12 * 5}]


def test_a_token_budget_leaves_empty_iterations(tmp_path: Path) -> None:
    iteration(tmp_path / "grpo/s0/iteration_0000", {"update": 1.0}, 20)  # 10 tokens a rollout
    found = list(planned_tokens(stage_times(tmp_path), experiment(select={"token_budget": 401}), "grpo"))
    assert [tokens["generate"] for tokens in found] == [400, 400, 0, 0, 0]
