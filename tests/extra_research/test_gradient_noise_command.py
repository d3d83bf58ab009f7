"""extra gradient-noise: the noise of the gradient with and without each mechanism, from files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from extra_research.__main__ import main
from extra_research.advantages import WITHOUT_REPLAY, has_replays, tables_with_and_without, with_rollouts
from extra_research.commands.gradient_noise import groups_of, products_of_variants
from extra_research.contracts import GradientNoise
from extra_research.finished import open_stage
from extra_rl.tables import read_table
from extra_rl.tables.signal import is_replay
from tests.conftest import Run, copy_of

VARIANTS = ["as_it_was", "without novelty", "without regenerated", "without both", "random bonus"]
"""Of a run with novelty and continuations that replayed nothing."""


def iteration(run: Run, number: int = 1, arm: str = "extra") -> Path:
    return run.results / arm / "s0" / f"iteration_{number:04d}"


def stages(folder: Path) -> tuple[Any, Any, Any]:
    update, advantage, novelty = (open_stage(folder, name) for name in ("update", "advantage", "novelty"))
    return update, advantage, novelty


def test_every_mechanism_is_taken_away_on_the_same_rollouts(mini_run: Run) -> None:
    _, advantage, novelty = stages(iteration(mini_run))
    tables = tables_with_and_without(advantage, novelty)
    assert not has_replays(advantage)
    assert tables.pop(WITHOUT_REPLAY).equals(tables["as_it_was"])
    assert list(tables) == VARIANTS
    own, plain, fresh, neither, drawn = tables.values()
    regenerated = set(advantage.inputs["generate"].filter(origin="regenerated")["rollout_id"])
    assert own.equals(advantage.outputs["advantage"])
    assert plain["bonus"].abs().sum() == neither["bonus"].abs().sum() == 0 < own["bonus"].abs().sum()
    assert plain["normalised"].equals(own["normalised"])
    assert regenerated & set(own["rollout_id"]) == regenerated != set()
    assert not fresh["carried"].any()
    assert set(fresh["rollout_id"]) == set(neither["rollout_id"])
    assert set(fresh["rollout_id"]) == set(own.filter(~pl.col("carried"))["rollout_id"]) - regenerated
    right = pl.col("reward") == 1.0
    assert sorted(drawn.filter(right)["bonus"]) == pytest.approx(sorted(own.filter(right)["bonus"]), abs=1e-6)
    assert drawn["bonus"].to_list() != own["bonus"].to_list()


def test_replays_are_left_out_and_other_continuations_stay(mini_run: Run) -> None:
    _, advantage, _ = stages(iteration(mini_run))
    rows = advantage.inputs["generate"]
    continued = rows.filter(origin="regenerated")["group_id"].unique(maintain_order=True)
    assert len(continued) > 1
    replayed = pl.when(group_id=continued[0]).then(pl.format("{}/r0.3", "group_id")).otherwise("group_id")
    generate = rows.with_columns(pl.when(origin="regenerated").then(replayed).otherwise("group_id").alias("group_id"))
    run = replace(advantage, inputs=advantage.with_table("generate", generate))
    assert has_replays(run)
    kept = with_rollouts(run, ~is_replay())["generate"]
    assert set(kept.filter(origin="regenerated")["group_id"]) == set(continued[1:])
    assert kept.filter(origin="fresh").equals(rows.filter(origin="fresh"))


def test_the_first_step_of_the_run_is_a_part_of_what_is_measured(mini_run: Run, tmp_path: Path) -> None:
    """The run's first step saw half of the rows with a denominator of its own; here all rows are one batch."""
    update, advantage, novelty = stages(iteration(mini_run))
    found = products_of_variants(update, advantage, novelty)["as_it_was"]
    trained = update.helper("training_rows")(update.inputs, update.config())["rollout_id"]
    assert set(found.names_K) == {groups_of(update)[name] for name in trained}
    one_step = update.config({"minibatches": 1, "gradient_clip": 1e9})
    context = update._context()
    context.outputs["next_policy"] = tmp_path / "policy" / "manifest.json"
    steps = update.run(update.inputs, one_step, context)["update"]
    assert found.total**0.5 == pytest.approx(steps["gradient_norm"][0], rel=1e-5)


def test_a_table_of_one_iteration_lies_in_its_folder(
    mini_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = iteration(copy_of(mini_run, tmp_path / "copy"))
    assert main(["gradient-noise", str(folder)]) == 0
    table = read_table(folder / "counterfactual" / "gradient_noise.parquet", GradientNoise)
    assert table["variant"].to_list() == VARIANTS
    assert table["iterations"].to_list() == [1] * 5
    said = capsys.readouterr().out
    assert said.startswith("noise of the gradient, extra/s0/i1\n")
    assert "without regenerated" in said


def test_several_iterations_are_one_table_and_empty_ones_are_passed_over(
    mini_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [str(iteration(mini_run, number)) for number in range(3)]
    assert main(["gradient-noise", *folders, "--out", str(tmp_path)]) == 0
    table = read_table(tmp_path / "gradient_noise.parquet", GradientNoise)
    assert table["variant"].to_list() == VARIANTS
    assert table["iterations"].to_list() == [2] * 5
    said = capsys.readouterr().out
    assert "extra/s0/i2: no rollouts, the budget was spent before\n" in said
    assert "noise of the gradient, 2 iterations, extra/s0/i0 to extra/s0/i1" in said


def test_a_run_without_mechanisms_has_nothing_to_take_away(mini_run: Run, tmp_path: Path) -> None:
    assert main(["gradient-noise", str(iteration(mini_run, 0, "grpo")), "--out", str(tmp_path)]) == 0
    table = read_table(tmp_path / "gradient_noise.parquet", GradientNoise)
    assert table["variant"].to_list() == VARIANTS[:4]
    for column in ("trace", "squared_mean", "groups"):
        assert table[column].n_unique() == 1


def test_iterations_of_several_runs_need_a_place_for_their_table(
    mini_run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [str(iteration(mini_run, 0, arm)) for arm in ("grpo", "extra")]
    assert main(["gradient-noise", *folders]) == 2
    assert "--out FOLDER" in capsys.readouterr().err


def test_a_policy_whose_weights_are_gone(mini_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = copy_of(mini_run, tmp_path / "copy")
    (iteration(run, 0) / "policy" / "model.safetensors").unlink()
    assert main(["gradient-noise", str(iteration(run))]) == 2
    assert "iteration_0000/policy" in capsys.readouterr().err
