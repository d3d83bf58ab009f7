"""choose_prefixes: hard groups, cuts of their rollouts, the choice of prefixes, waiting groups and memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from extra_rl.errors import ConfigError
from stages import choose_prefixes
from tests.conftest import POLICY
from tests.stages.rows import Row, group, run_stage, tables_of

END = 106  # `;` in the vocabulary of the test policy
FIRST, SECOND = "extra/s0/i0/0", "extra/s0/i0/1"
PEAK_AT_5 = (0.1, 0.2, 0.3, 0.6, 0.1, 0.9, 0.1, 0.1, 0.1, 0.1)
SAMPLER: dict[str, Any] = {"scores_from": "sampler", "rank": "low_mean_surprisal"}
CONFIG: dict[str, Any] = {"groups": "all_hard", "min_tokens": 1, "prefixes_per_problem": 1}


def response(*numbers: int) -> tuple[int, ...]:
    """Ten tokens with boundaries after the fourth and the seventh: the cuts allowed are 4 and 7."""
    head = numbers or (10, 11, 12)
    return (*head, END, 20, 21, END, 22, 23, 2)


def hard(group_id: str = FIRST, problem_id: str = "p0", **changes: Any) -> list[Row]:
    """A group of two incorrect rollouts; only the first can be cut before its peak."""
    rows = group("ww", group_id=group_id, problem_id=problem_id, response_tokens=response())
    first = Row(**{**rows[0].__dict__, "entropies": PEAK_AT_5, **changes})
    peak_at_0 = Row(**{**rows[1].__dict__, "entropies": (0.9, *[0.1] * 9)})
    return [first, peak_at_0]


def choose(
    rows: list[Row],
    pool: pl.DataFrame | None = None,
    iteration: int = 0,
    seed: int = 0,
    **config: Any,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The prefixes and the pool."""
    tables = tables_of(rows)
    if pool is not None:
        tables["previous_choose_prefixes_pool"] = pool
    manifest = POLICY / "manifest.json"
    made = run_stage(
        choose_prefixes,
        tables,
        {**CONFIG, **config},
        paths={"policy": manifest, "initial": manifest},
        iteration=iteration,
        seed=seed,
    )
    return made["choose_prefixes"], made["choose_prefixes_pool"]


def test_the_cut_lies_at_the_step_boundary_before_the_highest_entropy() -> None:
    (row,) = choose(hard())[0].to_dicts()
    assert row["prefix_id"] == f"{FIRST}/0@4"
    assert (row["parent_rollout_id"], row["group_id"], row["problem_id"]) == (f"{FIRST}/0", FIRST, "p0")
    assert row["prefix_tokens"] == [10, 11, 12, END]
    assert row["prefix_logprobs"] == [-1.0] * 4
    assert row["cut_reason"] == "before_peak"
    assert row["score"] == pytest.approx((0.1 + 0.2 + 0.3 + 0.6) / 4)
    assert (row["chosen"], row["continuations"], row["when"]) == (True, 2, "next_iteration")


def test_a_later_peak_moves_the_cut() -> None:
    (row,) = choose(hard(entropies=(*[0.1] * 8, 0.9, 0.1)))[0].to_dicts()
    assert row["prefix_id"] == f"{FIRST}/0@7"


def test_every_boundary_gives_every_cut_within_the_range() -> None:
    prefixes = choose(hard(), cut="every_boundary")[0]
    assert prefixes["prefix_id"].to_list() == [f"{FIRST}/{n}@{cut}" for n in (0, 1) for cut in (4, 7)]
    narrow = choose(hard(), cut="every_boundary", first_cut=0.5)[0]
    assert narrow["prefix_id"].to_list() == [f"{FIRST}/0@7", f"{FIRST}/1@7"]


def test_a_response_without_a_boundary_is_cut_at_fixed_strides() -> None:
    row = Row(f"{FIRST}/0", response_tokens=(10, 11, 12, 13, 14, 15, 16, 17, 18, 2))
    prefixes = choose([row], cut="every_boundary", min_tokens=3)[0]
    assert [len(tokens) for tokens in prefixes["prefix_tokens"]] == [2, 5, 8]
    assert set(prefixes["cut_reason"]) == {"fixed_stride"}


@pytest.mark.parametrize(("rank", "winner"), [("low_mean_entropy", 1), ("high_mean_entropy", 0)])
def test_prefixes_are_chosen_in_the_order_of_their_mean_entropy(rank: str, winner: int) -> None:
    entropies = [(0.5,) * 5 + (0.9,) * 5, (0.2,) * 5 + (0.9,) * 5, (0.3,) * 5 + (0.9,) * 5]
    rows = [
        Row(f"{FIRST}/{n}", response_tokens=response(n, n, n), entropies=values) for n, values in enumerate(entropies)
    ]
    prefixes = choose(rows, rank=rank)[0]
    order = prefixes.sort("rank")["parent_rollout_id"].str.split("/").list.last().to_list()
    assert order == (["1", "2", "0"] if rank == "low_mean_entropy" else ["0", "2", "1"])
    assert prefixes.filter("chosen")["parent_rollout_id"].to_list() == [f"{FIRST}/{winner}"]


def test_surprisal_is_that_of_the_sampled_tokens_and_independent_of_entropy() -> None:
    peak_at_2, peak_at_8 = (-0.125, -0.125, -3.0, *[-0.125] * 7), (*[-0.25] * 8, -3.0, -0.25)
    rows = [
        Row(f"{FIRST}/{n}", response_tokens=response(n, n, n), entropies=PEAK_AT_5, policy_logprob=logprobs)
        for n, logprobs in enumerate([peak_at_2, peak_at_8, peak_at_8])
    ]
    peaks = choose(rows, cut="before_peak_surprisal")[0]
    assert peaks["prefix_id"].to_list() == [f"{FIRST}/1@7", f"{FIRST}/2@7"]  # the first has no cut before its peak
    assert peaks["score"].to_list() == pytest.approx([sum(PEAK_AT_5[:7]) / 7] * 2)  # scores are mean entropies
    ranked = choose(rows, cut="every_boundary", rank="low_mean_surprisal", prefixes_per_problem=2)[0].sort("rank")
    assert ranked["prefix_id"].to_list() == [f"{FIRST}/{cut}" for cut in ("1@4", "1@7", "2@4", "2@7", "0@7", "0@4")]
    assert ranked["score"].to_list() == pytest.approx([0.25, 0.25, 0.25, 0.25, 3.75 / 7, 3.375 / 4])
    assert ranked["chosen"].to_list() == [True, True, False, False, False, False]


def test_the_prefixes_chosen_are_distinct_texts() -> None:
    twins = [Row(f"{FIRST}/{n}", response_tokens=response(), entropies=(0.1,) * 5 + (0.9,) * 5) for n in (0, 1)]
    other = Row(f"{FIRST}/2", response_tokens=response(1, 2, 3), entropies=(0.3,) * 5 + (0.9,) * 5)
    prefixes = choose([*twins, other], prefixes_per_problem=2)[0]
    assert prefixes.filter("chosen")["parent_rollout_id"].to_list() == [f"{FIRST}/0", f"{FIRST}/2"]
    assert prefixes["continuations"].to_list() == [2, 0, 2]


def test_only_incorrect_rollouts_of_hard_groups_are_cut() -> None:
    mixed = group("rwww", group_id=SECOND, response_tokens=response(), entropies=PEAK_AT_5)
    assert choose([*hard(), *mixed])[0]["group_id"].to_list() == [FIRST]
    quarter = choose(mixed, max_pass_rate=0.25, prefixes_per_problem=9)[0]
    assert quarter["parent_rollout_id"].to_list() == [f"{SECOND}/{n}" for n in (1, 2, 3)]


def test_rollouts_that_could_not_be_judged_are_neither_counted_nor_cut() -> None:
    assert choose(group("ee", response_tokens=response(), entropies=PEAK_AT_5))[0].is_empty()
    half = choose(group("we", response_tokens=response(), entropies=PEAK_AT_5))[0]
    assert half["parent_rollout_id"].to_list() == [f"{FIRST}/0"]


def test_continuations_are_not_cut_again() -> None:
    again = hard()[0].continued("extra/s0/i1/i0.0/0", 4, entropies=PEAK_AT_5)
    assert choose([again], cut="every_boundary")[0].is_empty()


def test_waiting_and_remembered_candidates_keep_the_length_of_their_parent() -> None:
    short = hard(SECOND, "p1", response_tokens=response()[:8], entropies=PEAK_AT_5[:8])[:1]
    rows = [*hard(), *short]
    chosen, pool = choose(rows, cut="every_boundary", groups=1, remember=2)
    assert set(chosen["parent_length"]) == {10}
    assert set(pool.filter("waiting")["parent_length"]) == {8}
    assert set(pool.filter(~pl.col("waiting"))["parent_length"]) == {10}
    assert set(choose(group("rr"), pool, iteration=1, groups=1)[0]["parent_length"]) == {8}


def test_groups_over_the_limit_wait_and_come_first_in_the_next_iteration() -> None:
    rows = hard() + hard(SECOND, "p1") + hard("extra/s0/i0/2", "p2")
    chosen, pool = choose(rows, groups=1)
    assert chosen["group_id"].to_list() == [FIRST]
    assert pool.filter("waiting")["group_id"].to_list() == [SECOND, "extra/s0/i0/2"]
    chosen, pool = choose(hard("extra/s0/i1/0", "p3"), pool, iteration=1, groups=2)
    assert chosen["group_id"].to_list() == [SECOND, "extra/s0/i0/2"]
    assert chosen["iteration"].to_list() == [0, 0]
    assert pool["group_id"].to_list() == ["extra/s0/i1/0"]


def test_without_a_limit_no_group_waits() -> None:
    chosen, pool = choose(hard() + hard(SECOND, "p1"))
    assert chosen["group_id"].to_list() == [FIRST, SECOND]
    assert pool.is_empty()


def test_a_group_that_waited_longer_than_max_age_is_dropped() -> None:
    pool = choose(hard() + hard(SECOND, "p1"), groups=1)[1]
    for iteration, groups in ((3, [SECOND]), (4, [])):
        assert choose(group("r"), pool, iteration=iteration, max_age=3)[0]["group_id"].to_list() == groups


def test_the_control_without_a_cut_samples_the_prompt_again() -> None:
    prefixes = choose(hard(), cut="none", prefixes_per_problem=4, continuations_per_prefix=2)[0]
    (row,) = prefixes.to_dicts()
    assert (row["prefix_tokens"], row["parent_rollout_id"], row["score"]) == ([], None, None)
    assert (row["cut_reason"], row["continuations"]) == ("fresh", 8)


def test_a_random_cut_is_seeded_and_at_a_boundary() -> None:
    rows = [row for n in range(8) for row in hard(f"extra/s0/i0/{n}", f"p{n}")]
    drawn = {seed: choose(rows, cut="random", seed=seed)[0] for seed in (0, 1)}
    assert drawn[0].equals(choose(rows, cut="random")[0])
    lengths = {seed: prefixes["prefix_tokens"].list.len().to_list() for seed, prefixes in drawn.items()}
    assert set(lengths[0]) == {4, 7}
    assert lengths[0] != lengths[1]
    assert set(drawn[0]["cut_reason"]) == {"random"}


def test_a_remembered_prefix_is_a_candidate_for_a_later_group_of_its_problem() -> None:
    _, pool = choose(hard(entropies=(0.01,) * 5 + (0.9,) * 5), remember=2)
    assert pool.filter(~pl.col("waiting"))["prefix_id"].to_list() == [f"{FIRST}/0@4"]
    later = "extra/s0/i5/0"
    prefixes, pool = choose(hard(later, response_tokens=response(7, 8, 9)), pool, iteration=5, remember=2)
    assert prefixes["prefix_id"].to_list() == [f"{later}/0@4", f"{FIRST}/0@4>{later}"]
    best = prefixes.filter("chosen").to_dicts()[0]
    assert best["prefix_id"] == f"{FIRST}/0@4>{later}"
    assert (best["group_id"], best["parent_rollout_id"], best["iteration"]) == (later, f"{FIRST}/0", 0)
    assert pool["prefix_id"].to_list() == [f"{FIRST}/0@4", f"{later}/0@4"]


def test_memory_is_per_problem_and_limited() -> None:
    _, pool = choose(hard(), remember=2)
    other = "extra/s0/i1/0"
    assert choose(hard(other, "p1"), pool, iteration=1)[0]["group_id"].to_list() == [other]
    for iteration in (1, 2, 3):
        _, pool = choose(hard(f"extra/s0/i{iteration}/0"), pool, iteration=iteration, remember=2)
    assert pool["iteration"].to_list() == [2, 3]


def test_switched_off_it_chooses_nothing_and_passes_the_pool_on() -> None:
    pool = choose(hard() + hard(SECOND, "p1"), groups=1)[1]
    chosen, passed_on = choose(hard("extra/s0/i1/0"), pool, iteration=1, groups=0)
    assert chosen.is_empty()
    assert passed_on.equals(pool)
    assert choose([], pool, iteration=1)[1].equals(pool)


@pytest.mark.parametrize(("iteration", "candidates"), [(0, 0), (2, 0), (3, 1)])
def test_no_group_is_continued_or_queued_during_the_warm_up(iteration: int, candidates: int) -> None:
    rows, pool = choose(hard(f"extra/s0/i{iteration}/0"), iteration=iteration, warmup_iterations=3)
    assert len(rows) == candidates
    assert pool.is_empty()


def test_smoothing_ranks_by_the_scores_of_similar_prefixes() -> None:
    entropies = [(0.5,) * 5 + (0.9,) * 5, (0.2,) * 5 + (0.9,) * 5]
    rows = [
        Row(f"{FIRST}/{n}", response_tokens=response(3 * n, n, n), entropies=values)
        for n, values in enumerate(entropies)
    ]
    plain, smooth = choose(rows)[0], choose(rows, smoothing="policy", smoothing_tau=1e6)[0]
    assert plain["smoothed_score"].to_list() == [None, None]
    # at an infinite temperature all prefixes are neighbours, and every score is the plain mean
    assert smooth["smoothed_score"].to_list() == pytest.approx([0.35, 0.35], abs=1e-4)
    assert smooth["effective_neighbours"].to_list() == pytest.approx([2.0, 2.0], abs=1e-4)
    assert smooth["score"].to_list() == plain["score"].to_list()
    sharp = choose(rows, smoothing="policy", smoothing_tau=1e-4)[0]
    assert sharp["smoothed_score"].to_list() == pytest.approx([0.5, 0.2], abs=1e-4)
    assert sharp["effective_neighbours"].to_list() == pytest.approx([1.0, 1.0], abs=1e-4)


def test_the_table_contains_when_continuations_are_sampled() -> None:
    assert choose(hard(), when="same_iteration")[0]["when"].to_list() == ["same_iteration"]


def test_a_problem_has_at_most_max_cuts_candidates_spread_over_its_rollouts() -> None:
    rows = group("wwww", group_id=FIRST, response_tokens=response())
    every = choose(rows, cut="every_boundary")[0]["prefix_id"].to_list()
    assert len(every) == 8  # four rollouts with two cuts each
    kept = choose(rows, cut="every_boundary", max_cuts=4)[0]["prefix_id"].to_list()
    assert kept == [every[1], every[3], every[5], every[7]]


@pytest.mark.parametrize("mistake", [{"groups": -1}, {"first_cut": 0.9, "last_cut": 0.1}])
def test_impossible_settings_are_refused(mistake: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(mistake))):
        choose(hard(), **mistake)


def test_the_samplers_own_logprobs_choose_without_a_scoring_pass() -> None:
    """Policy and sampler disagree on which of the two rollouts has the lower surprisal."""
    rows = group("ww", response_tokens=response())
    first = replace(rows[0], sampler_logprob=-0.25, policy_logprob=-2.0)
    second = replace(rows[1], sampler_logprob=-1.5, policy_logprob=-0.5)
    by_surprisal = {"cut": "every_boundary", "rank": "low_mean_surprisal"}
    by_policy = choose([first, second], **by_surprisal)[0].filter("chosen")
    assert by_policy["prefix_id"].to_list() == [f"{FIRST}/1@4"]
    assert by_policy["score"].to_list() == [0.5]
    unscored = tables_of([first, second])
    del unscored["score_entropy_generate"]
    manifest = POLICY / "manifest.json"
    paths = {"policy": manifest, "initial": manifest}
    made = run_stage(choose_prefixes, unscored, {**CONFIG, **by_surprisal, **SAMPLER}, paths=paths)["choose_prefixes"]
    assert made.filter("chosen")["prefix_id"].to_list() == [f"{FIRST}/0@4"]
    assert made.sort("prefix_id")["score"].to_list() == [0.25, 0.25, 1.5, 1.5]
    with pytest.raises(ConfigError, match=r"score_entropy_generate.*scores_from: sampler"):
        run_stage(choose_prefixes, unscored, {**CONFIG, **by_surprisal}, paths=paths)


def test_the_peak_of_the_samplers_surprisal() -> None:
    made = choose(hard(), **SAMPLER, cut="before_peak_surprisal")[0]
    assert made.is_empty()  # all logprobs are equal: the first token is the peak, before every cut
    made = choose(hard(), scores_from="sampler", rank="random", cut="random")[0]
    assert made["score"].to_list() == [1.0, 1.0]  # mean surprisal, the only score without a scoring pass


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"cut": "before_peak_entropy", "rank": "random"}, " cut: before_peak_entropy "),
        ({"cut": "random", "rank": "high_mean_entropy"}, " rank: high_mean_entropy "),
        ({}, " cut: before_peak_entropy and rank: low_mean_entropy "),
    ],
)
def test_a_rule_by_entropy_is_refused_with_the_samplers_scores(config: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=f"scores_from: sampler.*{named}"):
        choose(hard(), scores_from="sampler", **config)


def test_settings_that_need_no_entropy_are_accepted() -> None:
    assert len(choose(hard(), scores_from="sampler", cut="none")[0]) == 1
    assert choose(hard(), scores_from="sampler", groups=0)[0].is_empty()
