"""choose_prefixes.action: prefixes, more rollouts or nothing for each hard group, by useful groups per token."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from extra_rl.algorithms.cheapest import fit_beta, useful_by_branching, useful_by_resampling
from extra_rl.errors import ConfigError
from extra_rl.results import REPLAYED
from stages import choose_prefixes
from stages.generate import continuation_plans
from tests.conftest import POLICY
from tests.stages.rows import Row, group, run_stage, tables_of
from tests.stages.test_calibrated import CONFIG, FIRST, TOKENS, hard, past

MANIFEST = POLICY / "manifest.json"
SECOND = "extra/s0/i1/1"
CHEAPEST: dict[str, Any] = {**CONFIG, "action": "cheapest", "prefixes_per_problem": 2}
Made = dict[str, pl.DataFrame]
HALF = past((0.5, 4, 1, 2), (0.5, 4, 1, 2))
"""Branches without a slope: q is 1/2 for every prefix."""
RARE = past(*[(0.5, 4, 0, 2)] * 9, (0.5, 4, 1, 2))
"""The same with q 1/20."""


def act(
    rows: list[Row],
    branches: pl.DataFrame | None = HALF,
    before: Made | None = None,
    *,
    iteration: int = 1,
    joined: bool = True,
    **config: Any,
) -> Made:
    """The tables of the stage. before: those of the previous iteration."""
    tables = tables_of(rows) | {f"previous_{name}": table for name, table in (before or {}).items()}
    if branches is not None:
        tables["previous_choose_prefixes_branches"] = branches
    paths = {"policy": MANIFEST, "initial": MANIFEST}
    derived = {"joined_group": True} if joined else {}
    return run_stage(choose_prefixes, tables, {**CHEAPEST, **config}, derived=derived, paths=paths, iteration=iteration)


def mixed(name: str = SECOND, verdicts: str = "rw", length: int = 10) -> list[Row]:
    return group(verdicts, group_id=name, problem_id=name, response_tokens=(10,) * length)


def decided(made: Made, group_id: str = FIRST) -> dict[str, Any]:
    (row,) = made["choose_prefixes_groups"].filter(pl.col("group_id") == group_id).to_dicts()
    return row


def test_branches_that_are_cheapest_are_continued() -> None:
    """Two prefixes of 9 of 10 tokens with q 1/2, two continuations each: (1 - 1/16) / 4 per token.

    The fresh groups are this hard one of 2 x 10 tokens and a mixed one of as many: 1 useful group in 40 tokens.
    """
    made = act([*hard(0.25, 0.75), *mixed()])
    row = decided(made)
    assert (row["action"], row["decided"]) == ("branch", 1)
    assert row["branch_per_1000"] == pytest.approx(1e3 * (15 / 16) / 4)
    assert row["fresh_per_1000"] == pytest.approx(1e3 / 40)
    prior = fit_beta(*(made["choose_prefixes_groups"][name].to_numpy() for name in ("right", "judged")))
    more = useful_by_resampling(prior, 0, 2, 4, separate=False)
    assert row["resample_per_1000"] == pytest.approx(1e3 * more / (4 * 10))
    table = made["choose_prefixes"]
    assert table.filter("chosen")["prefix_id"].to_list() == [f"{FIRST}/{n}@9" for n in (0, 1)]
    assert table.filter("chosen")["continuations"].to_list() == [2, 2]
    (empty,) = table.filter(pl.col("cut_reason") == "fresh").to_dicts()
    assert (empty["prefix_id"], empty["chosen"], empty["rank"]) == (f"{FIRST}@0", False, 6)


def test_more_rollouts_that_are_cheapest_are_one_empty_prefix() -> None:
    """Most groups are solved half of the time, and a branch is correct in 1 of 20 only: 4 rollouts of the problem."""
    solvable = [row for n in range(9) for row in mixed(f"extra/s0/i1/{n + 1}", "rrww", 40)]
    made = act([*hard(0.25, 0.75), *solvable], RARE, last_cut=0.3)
    row = decided(made)
    assert row["action"] == "resample"
    assert row["resample_per_1000"] > row["branch_per_1000"] == pytest.approx(1e3 * (1 - 0.95**4) / (4 * 7), rel=1e-3)
    table = made["choose_prefixes"]
    (empty,) = table.filter("chosen").to_dicts()
    assert (empty["prefix_id"], empty["continuations"], empty["rank"]) == (f"{FIRST}@0", 4, 0)
    assert table.sort("rank")["rank"].to_list() == [0, 1, 2]
    plans = continuation_plans(table, "next_iteration", "extra/s0/i2")
    assert [(plan.group_id, plan.prefix_tokens, plan.origin) for plan in plans] == [(FIRST, (), "regenerated")] * 4
    assert made["choose_prefixes_branches"].filter(pl.col("tries") == 0).is_empty()  # nothing was branched


def test_nothing_is_done_where_fresh_problems_are_cheaper() -> None:
    easy = [row for n in range(40) for row in mixed(f"extra/s0/i1/{n + 1}", "rw", 2)]
    made = act([*hard(0.25, 0.75), *easy], RARE)
    row = decided(made)
    assert row["fresh_per_1000"] == pytest.approx(1e3 * 40 / (160 + 20))
    assert row["branch_per_1000"] == pytest.approx(1e3 * (1 - 0.95**4) / 4, rel=1e-3)
    assert row["action"] == "none"
    assert not made["choose_prefixes"]["chosen"].any()
    assert made["choose_prefixes_pool"].is_empty()  # it does not wait


def test_before_the_first_fit_every_hard_group_is_branched() -> None:
    easy = [row for n in range(40) for row in mixed(f"extra/s0/i1/{n + 1}", "rw", 2)]
    made = act([*hard(0.5, 0.25), *easy], None)
    row = decided(made)
    assert (row["action"], row["branch_per_1000"], row["resample_per_1000"]) == ("branch", None, None)
    assert made["choose_prefixes"].filter("chosen")["prefix_id"].to_list() == [f"{FIRST}/1@3", f"{FIRST}/1@6"]
    assert made["choose_prefixes_branches"].filter(pl.col("tries") == 0)["prefix_id"].len() == 2


def test_a_separate_group_must_not_be_all_correct() -> None:
    made = act([*hard(0.25, 0.75), *mixed()], joined=False)
    assert decided(made)["branch_per_1000"] == pytest.approx(1e3 * useful_by_branching([0.5] * 2, 2, separate=True) / 4)


def test_a_joined_group_that_is_mixed_already_gains_nothing() -> None:
    quarter = [*hard(0.25, 0.5, 0.75), Row(f"{FIRST}/3", group_id=FIRST, verdict="right", response_tokens=TOKENS)]
    assert decided(act(quarter, max_pass_rate=0.25))["action"] == "none"
    assert decided(act(quarter, max_pass_rate=0.25, joined=False))["action"] == "branch"


def test_a_group_that_cannot_be_cut_can_be_sampled_again() -> None:
    short = group("ww", group_id=FIRST, response_tokens=(10,))
    made = act(short)
    row = decided(made)
    assert (row["action"], row["branch_per_1000"]) == ("resample", None)
    assert made["choose_prefixes"]["prefix_id"].to_list() == [f"{FIRST}@0"]
    assert decided(act(short, None))["action"] == "none"


def test_only_the_best_groups_are_served_and_the_others_wait() -> None:
    """The second group's prefix leaves 1 of 10 tokens, the first one's 7 of 10, so the second is better per token."""
    early = [Row(f"{FIRST}/0", group_id=FIRST, response_tokens=(10, 11, 106, *[12] * 7), sampler_logprob=-0.5)]
    late = [
        Row(f"{SECOND}/0", group_id=SECOND, problem_id="p1", response_tokens=(*[12] * 8, 106, 2), sampler_logprob=-0.5)
    ]
    made = act([*early, *late], groups=1)
    assert [decided(made, name)["action"] for name in (FIRST, SECOND)] == ["wait", "branch"]
    assert made["choose_prefixes"]["group_id"].unique().to_list() == [SECOND]
    pool = made["choose_prefixes_pool"]
    assert pool["prefix_id"].to_list() == [f"{FIRST}@0", f"{FIRST}/0@3"]
    # much later: the results of groups that wait are kept, those of others are not, and parents can be joined no more
    later = act(mixed("extra/s0/i9/0", "rw", 40), HALF, made, iteration=9, groups=1)
    assert later["choose_prefixes_groups"]["group_id"].to_list() == [FIRST, "extra/s0/i9/0"]
    row = decided(later)
    assert (row["action"], row["decided"], row["iteration"]) == ("branch", 9, 1)
    assert row["branch_per_1000"] == pytest.approx(1e3 * (1 - 1 / 4 - 1 / 4) / (2 * 7))
    assert row["fresh_per_1000"] == pytest.approx(1e3 / 80)  # of the latest eight iterations only


def test_price_and_prior_come_from_the_latest_iterations() -> None:
    first = act([*hard(0.5), *mixed()], iteration=1)
    second = act(mixed("extra/s0/i2/0", "rw", 30), HALF, first, iteration=2)
    assert second["choose_prefixes_groups"].select("group_id", "right", "judged", "mixed", "sampled_tokens").rows() == [
        (FIRST, 0, 1, False, 10),
        (SECOND, 1, 2, True, 20),
        ("extra/s0/i2/0", 1, 2, True, 60),
    ]
    forgotten = act(mixed("extra/s0/i2/0"), HALF, first, iteration=2, price_iterations=1)
    assert forgotten["choose_prefixes_groups"]["group_id"].to_list() == ["extra/s0/i2/0"]
    third = "extra/s0/i3/0"
    again = act(group("ww", group_id=third, response_tokens=TOKENS), HALF, second, iteration=3)
    assert decided(again, third)["fresh_per_1000"] == pytest.approx(1e3 * 2 / 110)


def test_results_are_kept_during_the_warm_up_and_after_the_budget_is_spent() -> None:
    warm = act(hard(0.5), None, warmup_iterations=2)
    assert decided(warm)["action"] is None
    assert warm["choose_prefixes"].is_empty()
    empty = act([], None, warm, iteration=2)
    assert empty["choose_prefixes_groups"].equals(warm["choose_prefixes_groups"])


def test_without_it_no_row_is_other_and_no_job_names_it() -> None:
    rows = [*hard(0.25, 0.75), *mixed()]
    off = act(rows, action="branch")
    assert off["choose_prefixes_groups"].is_empty()
    assert "fresh" not in set(off["choose_prefixes"]["cut_reason"])
    on = act(rows)["choose_prefixes"]
    kept = on.filter(pl.col("cut_reason") != "fresh")
    assert kept.equals(off["choose_prefixes"])  # here the cheapest action is to branch
    section = choose_prefixes.Config.model_validate({"task": {}, "compute": {}}).model_dump(mode="json")
    assert not {"action", "price_iterations"} & set(section)


def test_a_waiting_empty_prefix_is_left_out_when_the_action_is_switched_off() -> None:
    waiting = act([*hard(0.25), *group("ww", group_id=SECOND, response_tokens=TOKENS, problem_id="p1")], groups=1)
    assert f"{SECOND}@0" in waiting["choose_prefixes_pool"]["prefix_id"].to_list()
    off = act(mixed("extra/s0/i2/0"), HALF, waiting, iteration=2, action="branch")["choose_prefixes"]
    assert set(off["cut_reason"]) == {"boundary"}


def test_replays_are_chosen_as_without_it() -> None:
    rows = [*hard(0.25), *group("rw", group_id=SECOND, response_tokens=TOKENS, problem_id="p1")]
    on, off = (act(rows, replay={"rows": 1}, action=action) for action in ("cheapest", "branch"))
    assert on["choose_prefixes_bank"].equals(off["choose_prefixes_bank"])
    replays = [made["choose_prefixes"].filter(pl.col("group_id").str.contains(REPLAYED)) for made in (on, off)]
    assert len(replays[0]) == 1
    assert replays[0].equals(replays[1])


@pytest.mark.parametrize(
    "changes",
    [
        {"rank": "low_mean_surprisal"},
        {"rank": "calibrated_half"},
        {"min_pass_rate": 0.1, "max_pass_rate": 0.2},
    ],
)
def test_it_needs_estimates_of_unsolved_problems(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="action: cheapest compares estimates"):
        act(hard(0.5), **changes)
