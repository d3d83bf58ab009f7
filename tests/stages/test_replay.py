"""choose_prefixes.replay: which trajectories are stored, what is replayed, and how the cuts move, counted by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from extra_rl.config.section import parse_config
from extra_rl.errors import ConfigError
from extra_rl.regeneration.settings import ReplayConfig
from extra_rl.sampling.rollouts import continuation_plans
from extra_rl.tables import contracts
from stages import choose_prefixes
from tests.conftest import POLICY
from tests.stages.rows import Row, frame, group, problem, run_stage, tables_of

END = 106  # `;` in the vocabulary of the test policy
TOKENS = (10, 11, END, 12, 13, END, 14, 15, END, 2)  # cuts after 3, 6 and 9 tokens
G0, G1, G2 = (f"extra/s0/i0/{n}" for n in range(3))
MANIFEST = POLICY / "manifest.json"
REPLAY: dict[str, Any] = {"rows": 4, "continuations": 4}


def choose(
    rows: list[Row],
    bank: pl.DataFrame | None = None,
    *,
    second_call: list[Row] | None = None,
    iteration: int = 0,
    replay: dict[str, Any] | None = None,
    tables: dict[str, pl.DataFrame] | None = None,
    derived: dict[str, Any] | None = None,
    **config: Any,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The chosen prefixes and the bank. second_call: continuations that the previous iteration sampled last."""
    given = tables_of(rows) | (tables or {})
    given |= {name: table for name, table in tables_of([], second_call or [], "previous_").items() if "regen" in name}
    if bank is not None:
        given["previous_choose_prefixes_bank"] = bank
    section = {"min_tokens": 1, "replay": {**REPLAY, **(replay or {})}, **config}
    paths = {"policy": MANIFEST, "initial": MANIFEST}
    made = run_stage(choose_prefixes, given, section, paths=paths, iteration=iteration, derived=derived)
    return made["choose_prefixes"], made["choose_prefixes_bank"]


def one_right(group_id: str = G0, problem_id: str = "p0", verdicts: str = "wwrw", **changes: Any) -> list[Row]:
    return group(
        verdicts,
        group_id=group_id,
        problem_id=problem_id,
        **{"response_tokens": TOKENS, "sampler_logprob": -0.5, **changes},
    )


def replays(verdicts: str, chosen: dict[str, Any], iteration: int, tokens: int = 10) -> list[Row]:
    """Judged continuations of a row of `choose_prefixes`."""
    length = len(chosen["prefix_tokens"])
    letters = {"r": "right", "w": "wrong", "e": "error"}
    _, place, name = chosen["group_id"].rsplit("/", 2)
    return [
        Row(
            f"extra/s0/i{iteration}/{place}.{name}/{n}",
            group_id=chosen["group_id"],
            problem_id=chosen["problem_id"],
            verdict=letters[letter],
            response_tokens=(*chosen["prefix_tokens"], *[20] * (tokens - length)),
            origin="regenerated",
            parent=chosen["parent_rollout_id"],
            prefix_length=length,
        )
        for n, letter in enumerate(verdicts)
    ]


def test_it_is_off_by_default_and_the_bank_is_empty() -> None:
    prefixes, bank = choose(one_right(), replay={"rows": 0})
    assert prefixes.is_empty()
    assert bank.is_empty()


def test_a_fresh_group_with_one_correct_rollout_is_stored_at_its_latest_cut_and_replayed() -> None:
    prefixes, bank = choose(one_right())
    (stored,), (chosen,) = bank.to_dicts(), prefixes.to_dicts()
    assert (stored["group_id"], stored["problem_id"], stored["entry"]) == (G0, "p0", "fresh")
    assert (stored["rollout_id"], stored["cuts"], stored["position"]) == (f"{G0}/2", [3, 6, 9], 3)
    assert (stored["successes"], stored["tries"], stored["born"], stored["last_served"]) == (0, 0, 0, 0)
    assert stored["priority"] == pytest.approx(0.25 / (4 * 1))  # one token is left after the cut at 9 of 10
    assert (chosen["group_id"], chosen["prefix_id"]) == ("extra/s0/i0/r0.0", f"{G0}/2@9>extra/s0/i0/r0.0")
    assert (chosen["prefix_tokens"], chosen["prefix_logprobs"]) == (list(TOKENS[:9]), [-0.5] * 9)
    assert (chosen["parent_rollout_id"], chosen["continuations"], chosen["when"]) == (f"{G0}/2", 4, "next_iteration")


def test_its_continuations_are_planned_as_one_group_with_names_of_their_own() -> None:
    plans = continuation_plans(choose(one_right())[0], "next_iteration", "extra/s0/i1")
    assert [plan.rollout_id for plan in plans] == [f"extra/s0/i1/i0.r0.0/{n}" for n in range(4)]
    assert {plan.group_id for plan in plans} == {"extra/s0/i0/r0.0"}


def test_groups_with_too_many_correct_rollouts_or_none_are_not_stored() -> None:
    rows = one_right(G0, "p0", "rrrw") + one_right(G1, "p1", "rr") + one_right(G2, "p2", "ww")
    assert choose(rows)[1].is_empty()
    assert choose(rows, replay={"fresh_correct": 3})[1]["problem_id"].to_list() == ["p0"]
    assert choose(one_right(verdicts="rrww"))[1]["rollout_id"].to_list() == [f"{G0}/0"]
    assert choose(one_right(verdicts="rrww"), replay={"fresh_correct": 1})[1].is_empty()


def test_a_rescue_is_stored_at_its_cut_with_what_is_known_of_it() -> None:
    parent, other = one_right(verdicts="ww")
    rescued = [
        parent.continued("extra/s0/i1/i0.0/0", 3, verdict="wrong"),
        other.continued("extra/s0/i1/i0.0/1", 6, verdict="right"),
        other.continued("extra/s0/i1/i0.0/2", 6, verdict="wrong"),
        other.continued("extra/s0/i1/i0.0/3", 6, verdict="error"),
    ]
    (stored,) = choose(rescued, iteration=1)[1].to_dicts()
    assert (stored["entry"], stored["rollout_id"]) == ("rescued", "extra/s0/i1/i0.0/1")
    assert (stored["cuts"], stored["position"]) == ([3, 6, 9], 2)
    assert (stored["successes"], stored["tries"], stored["tried_tokens"]) == (1, 2, 8)
    assert stored["priority"] == pytest.approx(0.25 / (4 * 4))
    later = choose([Row("extra/s0/i2/0/0")], second_call=rescued, iteration=2)[1]  # of a second sampling call
    assert later.drop("born", "last_served").equals(choose(rescued, iteration=1)[1].drop("born", "last_served"))
    assert choose(rescued, iteration=1, replay={"rescued": False})[1].is_empty()


def test_the_cut_that_rescued_a_group_is_a_cut_of_the_trajectory_although_no_step_ends_there() -> None:
    (parent,) = one_right(verdicts="w")
    (stored,) = choose([parent.continued("extra/s0/i1/i0.0/0", 4, verdict="right")], iteration=1)[1].to_dicts()
    assert (stored["cuts"], stored["position"]) == ([3, 4, 6, 9], 2)


@pytest.mark.parametrize(
    ("verdicts", "position", "successes", "tries"),
    [("rrrw", 2, 0, 0), ("rrww", 3, 2, 4), ("rwee", 3, 1, 2), ("wwww", 3, 0, 4), ("eeee", 3, 0, 0)],
)
def test_the_cut_follows_the_results_of_the_replays(verdicts: str, position: int, successes: int, tries: int) -> None:
    prefixes, bank = choose(one_right())
    rows = replays(verdicts, prefixes.to_dicts()[0], 1)
    chosen, bank = choose(rows, bank, iteration=1)
    (stored,) = bank.to_dicts()
    assert (stored["position"], stored["successes"], stored["tries"]) == (position, successes, tries)
    assert (stored["failures"], stored["last_served"], stored["born"]) == (int(verdicts == "wwww"), 1, 0)
    assert len(chosen["prefix_tokens"][0]) == [3, 6, 9][position - 1]
    assert chosen["group_id"].to_list() == ["extra/s0/i1/r0.0"]


@pytest.mark.parametrize(
    ("verdicts", "position"),
    [("rrww", 1), ("wwww", 2), ("rwww", 1)],  # (1/6)^(4/7) = .359 and (1/6)^(1/7) = .774 over 4 and 1 tokens
)
def test_with_moves_to_half_the_cut_jumps_to_where_half_should_be_correct(verdicts: str, position: int) -> None:
    """One of four correct: (1 + 1) / (4 + 2) over 10 tokens, so (1/3)^.7 = .463 over the 7 after the first cut."""
    half = {"move": "half"}
    prefixes, bank = choose(one_right(), replay=half)
    assert bank["position"].to_list() == [1]
    chosen, bank = choose(replays(verdicts, prefixes.to_dicts()[0], 1), bank, iteration=1, replay=half)
    assert bank["position"].to_list() == [position]
    last = choose(replays("rrrr", chosen.to_dicts()[0], 2), bank, iteration=2, replay=half)[1]
    assert last["position"].to_list() == [1] * (position - 1)  # from the first cut on it is finished


def test_a_failure_moves_by_one_position_also_with_moves_to_half() -> None:
    settings = {"move": "half", "fresh_correct": 0, "rescued": False, "failures_from": 0.75}
    prefixes, bank = choose(one_right(verdicts="rrrw"), replay=settings)
    assert bank["position"].to_list() == [2]
    later = choose(replays("rrrr", prefixes.to_dicts()[0], 1), bank, iteration=1, replay=settings)[1]
    assert later["position"].to_list() == [3]


def test_results_of_a_second_sampling_call_are_read_one_iteration_later() -> None:
    prefixes, bank = choose(one_right(), when="same_iteration")
    rows = replays("rrrr", prefixes.to_dicts()[0], 0)
    _, bank = choose([Row("extra/s0/i1/0/0")], bank, second_call=rows, iteration=1, when="same_iteration")
    assert bank["position"].to_list() == [2]


def test_replays_are_neither_rescues_nor_fresh_groups() -> None:
    prefixes, bank = choose(one_right())
    rows = replays("rwww", prefixes.to_dicts()[0], 1)
    _, after = choose(rows, bank, iteration=1)
    assert after["entry"].to_list() == ["fresh"]
    assert choose(rows, iteration=1)[1].is_empty()


def test_after_its_earliest_cut_a_trajectory_is_done_or_its_prompt_is_replayed() -> None:
    for serve_prompt, positions in ((False, [3, 2, 1]), (True, [3, 2, 1, 0])):
        replay = {"serve_prompt": serve_prompt}
        prefixes, bank = choose(one_right(), replay=replay)
        seen = []
        for iteration in range(1, 6):
            if bank.is_empty():
                break
            seen += bank["position"].to_list()
            prefixes, bank = choose(
                replays("rrrr", prefixes.to_dicts()[0], iteration), bank, iteration=iteration, replay=replay
            )
        assert seen == positions
        assert prefixes.is_empty()


def test_two_failures_at_the_latest_cut_drop_a_trajectory() -> None:
    prefixes, bank = choose(one_right())
    prefixes, bank = choose(replays("wwww", prefixes.to_dicts()[0], 1), bank, iteration=1)
    assert bank["failures"].to_list() == [1]
    assert choose(replays("wwww", prefixes.to_dicts()[0], 2), bank, iteration=2)[1].is_empty()


def test_trajectories_of_the_highest_priority_are_replayed_and_kept() -> None:
    short, long = TOKENS, (*TOKENS[:9], *[20] * 8, 2)
    rows = one_right(G0, "p0", response_tokens=long) + one_right(G1, "p1", response_tokens=short)
    prefixes, bank = choose(rows, replay={"rows": 1})
    assert prefixes["problem_id"].to_list() == ["p1"]
    assert bank["last_served"].to_list() == [None, 0]
    assert choose(rows, replay={"rows": 1, "capacity": 1})[1]["problem_id"].to_list() == ["p1"]
    by_group, bank = choose(rows, replay={"rows": 1, "order": "per_group"})
    assert by_group["problem_id"].to_list() == ["p0"]  # equal priorities: the first one
    assert bank["priority"].to_list() == [0.25, 0.25]
    both = choose(rows)[0]
    assert both.sort("rank")["problem_id"].to_list() == ["p1", "p0"]


def test_of_equal_priorities_the_one_that_was_served_longest_ago_comes_first_and_a_served_one_may_rest() -> None:
    rows = one_right(G0, "p0") + one_right(G1, "p1")
    first, bank = choose(rows, replay={"rows": 1})
    assert first["problem_id"].to_list() == ["p0"]
    nothing = [Row("extra/s0/i1/0/0", group_id="extra/s0/i1/0", problem_id="p9")]
    assert choose(nothing, bank, iteration=1, replay={"rows": 1})[0]["problem_id"].to_list() == ["p1"]
    assert choose(nothing, bank, iteration=1, replay={"rest": 1})[0]["problem_id"].to_list() == ["p1"]
    assert choose(nothing, bank, iteration=2, replay={"rest": 1})[0]["problem_id"].to_list() == ["p1", "p0"]


def test_a_bank_of_too_few_trajectories_replays_none_and_keeps_them() -> None:
    prefixes, bank = choose(one_right(G0, "p0") + one_right(G1, "p1"), replay={"min_stored": 3})
    assert prefixes.is_empty()
    assert bank["last_served"].to_list() == [None, None]
    prefixes, bank = choose(one_right(G2, "p2"), bank, iteration=1, replay={"min_stored": 3})
    assert prefixes["problem_id"].to_list() == ["p0", "p1", "p2"]


def test_a_problem_is_stored_once_and_dropped_after_its_age() -> None:
    _, bank = choose(one_right())
    again = one_right("extra/s0/i3/0", "p0")
    assert choose(again, bank, iteration=3, replay={"max_age": 3})[1]["born"].to_list() == [0]
    assert choose(again, bank, iteration=4, replay={"max_age": 3})[1]["born"].to_list() == [4]


def test_an_iteration_without_rollouts_and_the_warm_up_pass_the_bank_on() -> None:
    _, bank = choose(one_right())
    assert choose([], bank, iteration=1)[1].equals(bank)
    assert choose(one_right("extra/s0/i1/0", "p1"), bank, iteration=1, warmup_iterations=2)[1].equals(bank)


@pytest.mark.parametrize(("cut", "length", "reason"), [("last", 9, "boundary"), ("prompt", 0, "fresh")])
def test_controls_stay_at_one_cut(cut: str, length: int, reason: str) -> None:
    replay = {"cut": cut}
    (parent,) = one_right(verdicts="w")
    rescued = [parent.continued("extra/s0/i1/i0.0/0", 6, verdict="right")]
    prefixes, bank = choose(rescued, iteration=1, replay=replay)
    (chosen,) = prefixes.to_dicts()
    assert (len(chosen["prefix_tokens"]), chosen["cut_reason"]) == (length, reason)
    assert bank["tries"].to_list() == [0]  # nothing is known of this cut
    assert chosen["parent_rollout_id"] == (None if cut == "prompt" else "extra/s0/i1/i0.0/0")
    again, bank = choose(replays("rrww", chosen, 2), bank, iteration=2, replay=replay)
    assert len(again["prefix_tokens"][0]) == length
    assert bank["successes"].to_list() == [2]
    assert choose(replays("rrrr", again.to_dicts()[0], 3), bank, iteration=3, replay=replay)[1].is_empty()


def test_the_mismatched_control_takes_as_many_tokens_of_another_problem() -> None:
    other = (*[30] * 8, END, 2)
    rows = one_right(G0, "p0") + one_right(G1, "p1", response_tokens=other)
    prefixes, _ = choose(rows, replay={"prefix": "other_problem"})
    by_problem = {row["problem_id"]: row for row in prefixes.iter_rows(named=True)}
    assert by_problem["p0"]["prefix_tokens"] == list(other[:9])
    assert by_problem["p0"]["parent_rollout_id"] == f"{G1}/2"
    assert by_problem["p1"]["prefix_tokens"] == list(TOKENS[:9])
    assert choose(one_right(), replay={"prefix": "other_problem"})[0].is_empty()  # nobody to take it from


def test_a_failure_of_a_nearly_solved_group_is_stored_at_its_middle_cut_and_moves_the_other_way() -> None:
    replay = {"failures_from": 0.75, "fresh_correct": 0}
    rows = one_right(G0, "p0", "rrwr") + one_right(G1, "p1", "rrww") + one_right(G2, "p2", "rrrr")
    prefixes, bank = choose(rows, replay=replay)
    (stored,) = bank.to_dicts()
    assert (stored["entry"], stored["rollout_id"], stored["position"]) == ("failure", f"{G0}/2", 2)
    chosen = prefixes.to_dicts()[0]
    assert chosen["prefix_tokens"] == list(TOKENS[:6])
    for verdicts, position in (("rrrr", 3), ("wwww", 1), ("rrww", 2)):
        assert choose(replays(verdicts, chosen, 1), bank, iteration=1, replay=replay)[1]["position"].to_list() == [
            position
        ]


def test_oracle_prefixes_are_worked_solutions_of_unsolved_problems() -> None:
    replay = {"source": "demonstrations"}
    task = {"task": {"name": "signed_sum", "boundary": ";"}}
    rows = one_right(G0, "p0", "wwww") + one_right(G1, "p1", "wwwr")
    train = frame(contracts.Problems, [problem("p0", "3 4 5 :", "12"), problem("p1")])
    prefixes, bank = choose(rows, replay=replay, tables={"train": train}, min_tokens=6, **task)
    (stored,) = bank.to_dicts()
    assert (stored["entry"], stored["problem_id"], stored["rollout_id"]) == ("demonstration", "p0", None)
    assert len(stored["response_tokens"]) == 12  # 5 tokens, `;`, 5 tokens, and the end
    assert (stored["cuts"], stored["position"]) == ([6], 1)
    assert set(stored["response_logprobs"]) == {0.0}
    assert prefixes["prefix_tokens"].to_list() == [stored["response_tokens"][:6]]
    assert choose(rows, replay=replay, tables={"train": train}, min_tokens=6, **task)[1].equals(bank)
    with pytest.raises(ConfigError, match="as `train`"):
        choose(rows, replay=replay, **task)


def test_replays_and_continuations_of_hard_groups_are_chosen_together() -> None:
    hard = one_right(G1, "p1", "ww", entropies=(0.1,) * 9 + (0.9,))
    prefixes, bank = choose(one_right() + hard, groups="all_hard", prefixes_per_problem=1)
    chosen = prefixes.filter("chosen")
    assert dict(chosen.select("problem_id", "continuations").iter_rows()) == {"p1": 2, "p0": 4}
    assert bank["problem_id"].to_list() == ["p0"]


def test_only_replays_need_no_scores_of_the_policy() -> None:
    tables = tables_of(one_right())
    del tables["score_entropy_generate"]
    made = run_stage(
        choose_prefixes, tables, {"min_tokens": 1, "replay": REPLAY}, paths={"policy": MANIFEST, "initial": MANIFEST}
    )
    assert len(made["choose_prefixes"]) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"first_cut": 0.9, "last_cut": 0.5}, "first_cut 0.9"),
        ({"easy_share": 0.25, "hard_share": 0.25}, "hard_share 0.25"),
        ({"rows": 1, "rescued": False, "fresh_correct": 0}, "nothing is ever stored"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(ReplayConfig, changes, "replay")


def test_the_bank_breaks_its_contract_where_a_cut_is_outside_the_trajectory(tmp_path: Path) -> None:
    _, bank = choose(one_right())
    for cuts in ([3, 6, 10], [6, 3, 9], [3, 3]):
        assert not contracts.ReplayBank.is_valid(bank.with_columns(cuts=pl.Series([cuts], dtype=pl.List(pl.Int64))))
    assert contracts.ReplayBank.is_valid(bank)
