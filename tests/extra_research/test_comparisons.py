"""How a variant differs from the run: small tables, every number by hand."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from extra_research import advantages, prefixes


def advantage_table(**values: tuple[float, float]) -> pl.DataFrame:
    """rollout -> (normalised, bonus)."""
    rows = [
        {"rollout_id": k, "normalised": a, "bonus": b, "advantage": a + b, "carried": k == "p"}
        for k, (a, b) in values.items()
    ]
    return pl.DataFrame(rows)


ROLLOUTS = pl.DataFrame(
    {"rollout_id": ["a", "b", "c", "d", "p"], "group_id": ["1", "1", "2", "2", "3"], "length": [10, 20, 30, 40, 50]}
)
WAS = advantage_table(a=(0.5, 0.0), b=(-0.5, 0.0), c=(0.0, 0.0), d=(0.0, 0.0), p=(1.0, 0.0))


def test_a_variant_beside_the_run() -> None:
    """c gets a signal (group 2 gains), p leaves (group 3 loses), b changes its sign: 3 of 5 signs change. The bonus
    weighs 20 x 0.75 + 30 x 0.25 = 22.5 beside 10 x 0.5 + 20 x 0.5 = 15."""
    made = advantage_table(a=(0.5, 0.0), b=(-0.5, 0.75), c=(0.0, 0.25), d=(0.0, 0.0))
    found = advantages.compared(made, WAS, ROLLOUTS)
    assert found["bonus_share"] == pytest.approx(22.5 / 37.5)
    assert found["sign_changed"] == pytest.approx(3 / 5)
    assert (found["rollouts"], found["with_signal"]) == (4, 3)
    assert (found["groups"], found["groups_gained"], found["groups_lost"]) == (3, 1, 1)
    # Ranks as it was (a, b, c, d, p): 4, 1, 2.5, 2.5, 5; now: 5, 3.5 (b and c), 3.5, 1.5, 1.5. Deviations from 3 give
    # 1 x 2 - 2 x 0.5 - 0.5 x 0.5 + 0.5 x 1.5 - 2 x 1.5 = -1.5 over sqrt(9.5 x 9).
    assert found["rank_correlation"] == pytest.approx(-1.5 / (9.5 * 9.0) ** 0.5)


def test_the_run_beside_itself() -> None:
    found = advantages.compared(WAS, WAS, ROLLOUTS)
    assert found["rank_correlation"] == pytest.approx(1.0)
    assert (found["sign_changed"], found["groups_gained"], found["groups_lost"]) == (0.0, 0, 0)


def test_parents_that_were_carried_over_have_no_part_in_the_bonus_share() -> None:
    """p was; else the share would be (10 x 1 + 50 x 3) / (10 x 2 + 50 x 3)."""
    found = advantages.compared(advantage_table(a=(1.0, 1.0), p=(0.0, 3.0)), WAS, ROLLOUTS)
    assert found["bonus_share"] == pytest.approx(0.5)


def test_no_rank_correlation_with_what_is_constant() -> None:
    nothing = advantage_table(a=(0.0, 0.0), b=(0.0, 0.0), c=(0.0, 0.0), d=(0.0, 0.0), p=(0.0, 0.0))
    assert advantages.compared(nothing, WAS, ROLLOUTS)["rank_correlation"] is None


def candidate(group: str, tokens: list[int], rank: int, chosen: bool, **changes: Any) -> dict[str, Any]:
    """A row of `choose_prefixes`, of a parent with 10 tokens."""
    return {
        "prefix_id": f"{group}/{rank}@{len(tokens)}",
        "group_id": group,
        "prefix_tokens": tokens,
        "parent_length": 10,
        "score": rank / 10,
        "rank": rank,
        "chosen": chosen,
        "continuations": 2 * chosen,
        **changes,
    }


RUN = pl.DataFrame(
    [
        candidate("x", [1, 2], 0, True),
        candidate("x", [1, 2, 3], 1, True),
        candidate("x", [5], 2, False),
        candidate("y", [1, 2], 0, True),
    ]
)
TAKEN = RUN.filter("chosen").select("group_id", "prefix_tokens", run_prefix_id="prefix_id")
CONTINUED = pl.DataFrame({"prefix_id": ["x/0@2", "x/1@3"], "continuations": [2, 1], "right": [0, 1]})


def test_the_runs_own_choice_overlaps_itself() -> None:
    rows = prefixes.candidates_with_outcome(RUN, TAKEN, CONTINUED)
    found = prefixes.compared(rows, TAKEN)
    assert (found["share_in_run"], found["jaccard"]) == (1.0, 1.0)
    assert (found["groups"], found["candidates"], found["chosen"]) == (2, 4, 3)
    assert (found["continued"], found["rescued"]) == (2, 1)
    assert found["mean_score"] == pytest.approx((0.0 + 0.1 + 0.0) / 3)
    assert found["mean_length_share"] == pytest.approx((0.2 + 0.3 + 0.2) / 3)
    assert rows["place"].to_list() == [0, 1, None, 0]


def test_another_choice_of_the_same_group() -> None:
    """x: (1, 2, 3), under another name, and (5): one of two in the run, one of three taken by either. y: nothing, so y
    counts for Jaccard alone. z: not in the run."""
    made = pl.DataFrame(
        [
            candidate("x", [5], 0, True),
            candidate("x", [1, 2], 1, False),
            candidate("x", [1, 2, 3], 2, True, prefix_id="another name"),
            candidate("z", [1, 2], 0, True, parent_length=None, score=None),
        ],
        schema=RUN.schema,
    )
    rows = prefixes.candidates_with_outcome(made, TAKEN, CONTINUED)
    found = prefixes.compared(rows, TAKEN)
    assert rows["chosen_in_run"].to_list() == [False, True, True, False]
    assert rows["place"].to_list() == [0, None, 1, 0]
    assert found["share_in_run"] == pytest.approx((1 / 2 + 0) / 2)
    assert found["jaccard"] == pytest.approx((1 / 3 + 0 + 0) / 3)
    assert (found["continued"], found["rescued"]) == (1, 1)
    assert rows["right"].to_list() == [None, 0, 1, None]
    assert found["mean_length_share"] == pytest.approx((0.1 + 0.3) / 2)


def test_a_run_that_chose_nothing_has_no_overlap() -> None:
    rows = prefixes.candidates_with_outcome(RUN, TAKEN.clear(), CONTINUED.clear())
    found = prefixes.compared(rows, TAKEN.clear())
    assert (found["share_in_run"], found["jaccard"], found["continued"]) == (None, None, 0)


def test_the_rescue_rate_by_place() -> None:
    rows = prefixes.candidates_with_outcome(RUN, TAKEN, CONTINUED).with_columns(rule=pl.lit("as_it_was"))
    found = prefixes.rescue_by_place(rows)
    assert found.rows() == [(0, 1, 0, 2, 0), (1, 1, 1, 1, 1)]


def test_judged_continuations_are_counted_by_their_prefix() -> None:
    rollouts = pl.DataFrame(
        {"rollout_id": ["f", "1", "2", "3", "4"], "prefix_id": [None, "p", "p", "q", "q"]},
        schema_overrides={"prefix_id": pl.String},
    )
    verdicts = pl.DataFrame(
        {
            "rollout_id": ["f", "1", "2", "3", "4"],
            "verdict": ["right", "right", "wrong", "error", "wrong"],
            "reward": [1.0, 1.0, 0.0, None, 0.0],
        }
    )
    found = prefixes.continuations_of([(rollouts.head(3), verdicts), (rollouts.tail(2), verdicts)])
    assert found.rows() == [("p", 2, 1), ("q", 1, 0)]
    assert prefixes.continuations_of([]).rows() == []


def test_the_rules_that_are_tried() -> None:
    section = {"cut": "random", "rank": "random", "smoothing": "none", "prefixes_per_problem": 3, "groups": 5}
    rules = prefixes.rules_of(section)
    names = [prefixes.name_of(rule, section) for rule in rules]
    assert names[0] == "as_it_was"
    assert names[-1] == "cut=none"
    assert len(set(names)) == len(names) == 4 * 4 * 4 + 1
    assert names.count("cut=every_boundary rank=low_mean_entropy prefixes_per_problem=1") == 1
    assert "cut=every_boundary" in names
    assert len(prefixes.rules_of(section, ["policy"])) == 2 * 4 * 4 * 4 + 1
    unscored = prefixes.rules_of({**section, "scores_from": "sampler"})  # no rule by entropy can be tried
    assert len(unscored) == 3 * 2 * 4 + 1
    assert not any("entropy" in str(rule) for rule in unscored)


def test_a_run_without_regeneration_is_asked_for_all_its_hard_groups() -> None:
    section = {"cut": "random", "rank": "random", "smoothing": "none", "prefixes_per_problem": 1, "groups": 0}
    rules = prefixes.rules_of({**section, "warmup_iterations": 3})
    assert rules[0] == {}
    assert all(rule["groups"] == "all_hard" and rule["warmup_iterations"] == 0 for rule in rules[1:])
    assert len(rules) == 4 * 4 * 3 + 2
