"""Which groups a page shows."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from extra_rl.report import choice
from extra_rl.report.choice import Group, choose_groups, groups_of, order_of, runs_of, spread_out, together
from tests.conftest import Run
from tests.report.by_hand import HARD, MIXED, UNSOLVED, add_replays, make_run
from tests.stages.rows import group, tables_of, write_tables


def test_groups_have_their_continuations_and_kinds(tmp_path: Path) -> None:
    found = groups_of(make_run(tmp_path) / "extra" / "s0")
    assert [(g.name, g.iteration, g.size, g.kind) for g in found.values()] == [
        (HARD, 0, 4, "rescued"),
        (MIXED, 0, 2, "mixed"),
        (UNSOLVED, 0, 2, "all_incorrect"),
    ]


@pytest.mark.parametrize("verdicts", ["rw", "ww", "rr"])
def test_replays_are_a_kind_whatever_they_reach(tmp_path: Path, verdicts: str) -> None:
    results = make_run(tmp_path)
    add_replays(results, verdicts)
    run = results / "extra" / "s0"
    assert {name: group.kind for name, group in groups_of(run).items()} == {
        HARD: "rescued",
        MIXED: "mixed",
        UNSOLVED: "all_incorrect",
        "extra/s0/i1/r0.0": "replayed",
    }
    assert groups_of(run)["extra/s0/i1/r0.0"].parents == (HARD,)
    (chosen,) = choose_groups(results, 100).values()
    assert chosen == {name: group.kind for name, group in groups_of(run).items()}


def test_a_group_is_taken_whole_or_not_at_all(tmp_path: Path) -> None:
    results = make_run(tmp_path)
    for limit in range(10):
        found = groups_of(results / "extra" / "s0")
        sizes = [found[name].size for names in choose_groups(results, limit).values() for name in names]
        assert sum(sizes) <= limit
        assert sum(sizes) == {0: 0, 1: 0, 2: 2, 3: 2, 4: 4, 5: 4, 6: 6, 7: 6, 8: 8, 9: 8}[limit]


def test_all_arms_are_covered_before_further_seeds(tmp_path: Path) -> None:
    for arm in ("grpo", "extra"):
        for seed in (0, 1, 10):
            rows = [
                row for n in range(4) for row in group("rwww", group_id=f"{arm}/s{seed}/i0/{n}", problem_id=f"p{n}")
            ]
            write_tables(tmp_path / arm / f"s{seed}" / "iteration_0000", tables_of(rows), "advantage")
    names = [f"{run.parent.name}/{run.name}" for run in runs_of(tmp_path)]
    assert names == ["extra/s0", "grpo/s0", "extra/s1", "grpo/s1", "extra/s10", "grpo/s10"]
    chosen = choose_groups(tmp_path, 4 * choice.ROLLOUTS_A_RUN)
    assert {f"{run.parent.name}/{run.name}": len(groups) for run, groups in chosen.items()} == dict.fromkeys(
        names[:4], 4
    )
    few = choose_groups(tmp_path, 2 * 4 + 3)  # room for two groups, in the first run alone
    assert {run.parent.name: len(groups) for run, groups in few.items()} == {"extra": 1, "grpo": 1}


def some(kind: str, iteration: int, n: int) -> Group:
    return Group(f"{kind}{iteration}.{n}", iteration, 8, kind, ())


def test_the_beginning_of_the_order_covers_iterations_and_kinds() -> None:
    kinds = ("all_incorrect", "mixed", "all_correct", "rescued", "regenerated", "replayed")
    groups = [some(kind, iteration, n) for iteration in range(41) for kind in kinds for n in range(5)]
    ordered = order_of(groups, 0)
    assert sorted(group.name for group in ordered) == sorted(group.name for group in groups)
    first = ordered[:40]
    assert set(kinds) == {group.kind for group in first}
    assert {0, 20, 40} < {group.iteration for group in first}
    assert min(Counter(group.kind for group in first).values()) >= 4
    assert order_of(groups, 1)[0].kind != ordered[0].kind


def test_every_prefix_of_the_order_is_spread_out() -> None:
    groups = [some("mixed", iteration, 0) for iteration in range(100)]
    places = [group.iteration for group in spread_out(groups)[:8]]
    assert max(b - a for a, b in zip(sorted(places), sorted(places)[1:], strict=False)) <= 25


def test_parents_are_included_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = {
        "a": Group("a", 2, 8, "rescued", ("b",)),
        "b": Group("b", 1, 8, "regenerated", ("c",)),
        "c": Group("c", 0, 8, "regenerated", ()),
    }
    assert together(groups["a"], groups) == ["a", "b", "c"]
    monkeypatch.setattr(choice, "MOST_TOGETHER", 16)
    assert together(groups["a"], groups) == ["a", "b"]


def test_a_run_that_is_not_judged_yet_has_groups(tmp_path: Path) -> None:
    leave_out = {"verify_generate", "verify_regenerate", "advantage"}
    write_tables(tmp_path / "extra" / "s0" / "iteration_0000", tables_of(group("ww")), *leave_out)
    assert [g.kind for g in groups_of(tmp_path / "extra" / "s0").values()] == ["excluded"]


def test_all_groups_of_a_real_run_can_be_chosen(mini_run: Run) -> None:
    chosen = choose_groups(mini_run.results, 10_000)
    every = sum(group.size for run in chosen for group in groups_of(run).values())
    assert sum(groups_of(run)[name].size for run, names in chosen.items() for name in names) == every
    assert {run.parent.name for run in chosen} == {"grpo", "extra"}
