"""select: every arm of a seed reads the same stream, and an iteration selected alone is its part of the stream."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from extra_rl.errors import ConfigError, NoSignalError
from extra_rl.run.context import Guards, RunContext
from extra_rl.tables import contracts
from stages import select
from tests.stages.rows import frame, problem, run_stage

TRAIN = frame(
    contracts.Problems,
    [problem(f"{level}-{n}", benchmark=level) for level in ("L1", "L2") for n in range(10)],
)


def selected(
    iteration: int = 0, prompts: int = 4, *, arm: str = "extra", seed: int = 0, **config: object
) -> pl.DataFrame:
    section = {"prompts": prompts, **config}
    return run_stage(select, {"train": TRAIN}, section, arm=arm, seed=seed, iteration=iteration)["select"]


def spent(tokens: int, compute: float = 0.0) -> pl.DataFrame:
    """`previous_summarize` of a run that has spent these tokens and this compute; `select` reads no other column."""
    row = dict.fromkeys(contracts.IterationSummary.columns(), 0) | {"arm": "extra", "total_sampled_tokens": tokens}
    return frame(contracts.IterationSummary, [row | {"total_compute": compute}])


def test_arms_of_a_seed_read_the_same_stream_and_seeds_differ() -> None:
    extra, grpo = selected(3, arm="extra"), selected(3, arm="grpo")
    assert extra["problem_id"].to_list() == grpo["problem_id"].to_list()
    assert extra["position"].to_list() == grpo["position"].to_list() == [12, 13, 14, 15]
    assert selected(3, seed=1)["problem_id"].to_list() != extra["problem_id"].to_list()


def test_groups_are_named_after_their_arm_seed_and_iteration() -> None:
    assert selected(3, prompts=2, arm="grpo", seed=5)["group_id"].to_list() == ["grpo/s5/i3/0", "grpo/s5/i3/1"]


@pytest.mark.parametrize("weights", [{}, {"L1": 1.0, "L2": 3.0}])
def test_an_iteration_selected_alone_is_its_part_of_the_stream(weights: dict[str, float]) -> None:
    whole = selected(0, prompts=40, level_weights=weights)
    for iteration in (0, 3, 9):
        part = selected(iteration, prompts=4, level_weights=weights)
        assert part["problem_id"].to_list() == whole["problem_id"][4 * iteration : 4 * iteration + 4].to_list()


def test_without_weights_no_problem_repeats_within_an_epoch() -> None:
    epochs = selected(0, prompts=60)["problem_id"].to_list()
    for start in (0, 20, 40):
        assert sorted(epochs[start : start + 20]) == sorted(TRAIN["problem_id"])
    assert epochs[:20] != epochs[20:40]


def test_levels_are_drawn_by_their_weights() -> None:
    levels = selected(0, prompts=4000, level_weights={"L1": 1.0, "L2": 3.0})["problem_id"].str.slice(0, 2)
    # standard error of the share: sqrt(.75 * .25 / 4000) = 0.0068
    assert (levels == "L2").mean() == pytest.approx(0.75, abs=0.03)
    assert set(selected(0, prompts=40, level_weights={"L1": 0.0, "L2": 1.0})["problem_id"].str.slice(0, 2)) == {"L2"}


def test_a_level_without_problems_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"select\.level_weights.*L9"):
        selected(level_weights={"L1": 1.0, "L9": 1.0})


def test_no_training_problems_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"task\.train"):
        run_stage(select, {"train": TRAIN.clear()}, {"prompts": 4})


@pytest.mark.parametrize(
    ("tokens", "compute", "rows"),
    [(99, 0.99e12, 4), (100, 0.5e12, 0), (101, 0.5e12, 0), (50, 1e12, 0), (50, 1.5e12, 0)],
)
def test_an_iteration_is_empty_once_either_budget_is_spent(tokens: int, compute: float, rows: int) -> None:
    tables = {"train": TRAIN, "previous_summarize": spent(tokens, compute)}
    config = {"prompts": 4, "token_budget": 100, "compute_budget": 1e12}
    assert len(run_stage(select, tables, config, iteration=1)["select"]) == rows


def test_a_run_without_a_signal_ends_here_unless_its_budget_is_spent(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"iteration": 1, "run": RunContext(guards=Guards(stop_without_signal=1))}
    previous = tmp_path / "iteration_0000" / "summarize.parquet"
    previous.parent.mkdir()
    spent(99).with_columns(rollouts=pl.lit(8)).write_parquet(previous)
    contracts.Advantages.create_empty().write_parquet(previous.with_name("advantage.parquet"))
    tables, paths = {"train": TRAIN, "previous_summarize": spent(99)}, {"previous_summarize": previous}
    with pytest.raises(NoSignalError, match="extra/s0: iteration 0"):
        run_stage(select, tables, {"prompts": 4}, paths=paths, **keys)
    assert run_stage(select, tables, {"token_budget": 99}, paths=paths, **keys)["select"].is_empty()


def test_after_a_change_of_prompts_the_stream_goes_on_where_it_was() -> None:
    """derived.continued: iteration 3 with 4 instead of 2 prompts begins at position 6, not 12."""
    state = frame(contracts.IterationState, [{"iteration": 2, "next_position": 6}])
    tables = {"train": TRAIN, "previous_summarize_state": state}
    derived = {"rounds": 1, "continued": True}
    found = run_stage(select, tables, {"prompts": 4}, derived=derived, iteration=3)["select"]
    assert found["position"].to_list() == [6, 7, 8, 9]
    assert selected(3)["position"].to_list() == [12, 13, 14, 15]
