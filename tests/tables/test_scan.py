"""The reader's view: joined tables, unfinished and empty iterations, refused folders."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from extra_rl.errors import InputError
from extra_rl.tables import scan_iteration
from extra_rl.tables.scan import scan_run
from stages import advantage
from tests.stages.rows import PER_ROLLOUT, Row, group, run_stage, tables_of, write_tables


def put(folder: Path, generated: list[Row], regenerated: list[Row] | None = None, *leave_out: str) -> Path:
    """An iteration folder with the tables of those rollouts."""
    tables = tables_of(generated, regenerated or [])
    tables |= run_stage(advantage, tables, {"weight": 1.0})
    return write_tables(folder, tables, *leave_out)


def rollouts(arm: str = "extra", seed: int = 0, iteration: int = 0) -> list[Row]:
    return group("rw", group_id=f"{arm}/s{seed}/i{iteration}/0", novelty=0.25)


def test_one_row_per_rollout_with_the_columns_of_all_stages(tmp_path: Path) -> None:
    fresh = rollouts(seed=3, iteration=12)
    child = fresh[1].continued("extra/s3/i12/i12.0/0", 2, verdict="truncated")
    rows = scan_iteration(put(tmp_path, fresh, [child])).collect()
    assert rows["rollout_id"].to_list() == [*(row.rollout_id for row in fresh), child.rollout_id]
    assert rows["verdict"].to_list() == ["right", "wrong", "truncated"]
    assert rows["reward"].to_list() == [1.0, 0.0, 0.0]
    assert rows["novelty"].to_list() == [0.25] * 3
    assert rows["bonus"].to_list() == [0.25, 0.0, 0.0]
    assert rows["parent_rollout_id"].to_list() == [None, None, fresh[1].rollout_id]
    assert rows["entropies"].list.len().to_list() == [3, 3, 3]
    assert rows.select("arm", "seed", "iteration").unique().rows() == [("extra", 3, 12)]
    known = {name for contract in PER_ROLLOUT.values() for name in contract.columns()}
    assert set(rows.columns) == known | {"arm", "seed", "iteration", "replayed"}


def test_replays_are_told_from_continuations_of_new_prefixes(tmp_path: Path) -> None:
    fresh = rollouts(iteration=1)
    replay = "extra/s0/i1/r0.0"
    children = [
        fresh[1].continued("extra/s0/i1/i0.0/0", 2),
        fresh[1].continued(f"{replay}/0", 2, group_id=replay),
    ]
    rows = scan_iteration(put(tmp_path, [*fresh, *children])).collect()
    assert rows.select("origin", "replayed").rows() == [
        *[("fresh", False)] * 2,
        ("regenerated", False),
        ("regenerated", True),
    ]


def test_it_is_lazy_and_reads_only_the_selected_columns(tmp_path: Path) -> None:
    found = scan_iteration(put(tmp_path, rollouts()))
    assert isinstance(found, pl.LazyFrame)
    assert found.select("verdict").collect().columns == ["verdict"]


def test_an_empty_regenerate_adds_no_rows(tmp_path: Path) -> None:
    assert len(scan_iteration(put(tmp_path, rollouts(), [])).collect()) == 2


def test_an_empty_iteration_has_columns_and_no_rows(tmp_path: Path) -> None:
    rows = scan_iteration(put(tmp_path, [])).collect()
    assert rows.is_empty()
    assert {"arm", "verdict", "advantage"} <= set(rows.columns)


def test_an_arms_name_may_contain_the_pattern_of_seed_and_iteration(tmp_path: Path) -> None:
    rows = scan_iteration(put(tmp_path, rollouts(arm="extra-s1_i2"))).collect()
    assert set(rows["arm"]) == {"extra-s1_i2"}


def test_columns_of_stages_that_have_not_run_are_absent(tmp_path: Path) -> None:
    unfinished = ("regenerate", "verify_regenerate", "score_entropy_regenerate", "novelty", "advantage")
    rows = scan_iteration(put(tmp_path, rollouts(), [], *unfinished)).collect()
    assert rows["verdict"].to_list() == ["right", "wrong"]
    assert not {"novelty", "advantage", "bonus"} & set(rows.columns)
    judged_later = scan_iteration(put(tmp_path / "b", rollouts(), [], *unfinished, "verify_generate")).collect()
    assert "verdict" not in judged_later.columns
    assert judged_later["entropies"].list.len().to_list() == [3, 3]


def test_a_carried_parent_is_not_a_row_of_this_iteration(tmp_path: Path) -> None:
    parents = rollouts(iteration=0)
    child = parents[1].continued("extra/s0/i1/i0.0/0", 2, verdict="right")
    tables = tables_of([child]) | tables_of(parents, prefix="previous_")
    tables |= run_stage(advantage, tables, {"group": "joined"}, iteration=1)
    assert len(tables["advantage"]) == 3
    write_tables(tmp_path, tables)
    assert scan_iteration(tmp_path).collect()["rollout_id"].to_list() == [child.rollout_id]


def test_a_folder_without_rollouts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"generate\.parquet.*iteration_NNNN"):
        scan_iteration(tmp_path)
    with pytest.raises(InputError, match=str(tmp_path)):
        scan_run(tmp_path)


def test_a_run_has_all_its_iterations_in_order(tmp_path: Path) -> None:
    for arm in ("grpo", "extra"):
        for iteration in (0, 1, 10):
            put(tmp_path / arm / "s0" / f"iteration_{iteration:04d}", rollouts(arm, 0, iteration))
    (tmp_path / "grpo" / "s0" / "iteration_0011").mkdir()  # started, still empty
    (tmp_path / "grpo" / "s0" / "iteration_backup").mkdir()
    places = scan_run(tmp_path).select("arm", "iteration").unique(maintain_order=True).collect()
    assert places.rows() == [(arm, t) for arm in ("extra", "grpo") for t in (0, 1, 10)]
    one_arm = scan_run(tmp_path / "grpo").collect()
    assert set(one_arm["arm"]) == {"grpo"}
    assert len(one_arm) == 6


def test_a_run_in_progress_joins_finished_and_unfinished_iterations(tmp_path: Path) -> None:
    put(tmp_path / "s0" / "iteration_0000", rollouts())
    put(tmp_path / "s0" / "iteration_0001", rollouts(iteration=1), [], "novelty", "advantage")
    rows = scan_run(tmp_path).collect()
    assert rows["advantage"].is_null().to_list() == [False, False, True, True]
