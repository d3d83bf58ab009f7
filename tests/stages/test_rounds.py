"""generate in rounds (dynamic sampling): how many new problems each samples, when it ends, that nothing is hidden."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from extra_rl.config.derived import derive
from extra_rl.config.sections import TaskConfig, VerifierConfig
from extra_rl.errors import ConfigError
from extra_rl.sampling.rollouts import Plan
from extra_rl.sampling.rounds import (
    further_rounds,
    is_mixed,
    judged_rollouts,
    lacks,
    mixed_groups,
    same_problem_rounds,
)
from extra_rl.tables import contracts
from stages import generate, select, summarize
from stages.experiment import experiment_of
from tests.conftest import POLICY
from tests.stages.rows import Row, frame, group, problem, run_stage, tables_of
from tests.stages.test_summarize import tables as iteration_tables

PATHS = {"policy": POLICY / "manifest.json"}
PROMPT = [1, 6, 7, 107]  # `<bos> 3 4 :`
TRAIN = frame(contracts.Problems, [problem(f"p{n}") | {"prompt_tokens": PROMPT} for n in range(12)])
HOT = {"temperature": 1.7, "max_response_tokens": 12}


def selection(count: int, first: int = 0) -> pl.DataFrame:
    return frame(
        contracts.Selection,
        [{"group_id": f"extra/s0/i1/{n}", "problem_id": f"p{n}", "position": first + n} for n in range(count)],
    )


def generated(count: int, answers: str = "7", **config: Any) -> pl.DataFrame:
    """Groups of three from the test policy; `answers`: the gold of every problem."""
    train = TRAIN.with_columns(answer=pl.lit(answers))
    section = {"group_size": 3, "sampling": HOT, **config}
    tables = {"select": selection(count), "train": train}
    return run_stage(generate, tables, section, paths=PATHS, iteration=1)["generate"]


def plans(group_id: str, size: int = 2) -> list[Plan]:
    return [Plan(f"{group_id}/{n}", group_id, "p", "fresh", PROMPT) for n in range(size)]


class Script:
    """A roller with scripted groups: the numbers of the mixed ones. It records its requests."""

    def __init__(self, mixed: set[int]) -> None:
        self.mixed = mixed
        self.calls: list[tuple[int, int, int]] = []  # round, missing groups, rollouts

    def roll(self, number: int, missing: int, chosen: Any) -> pl.DataFrame:
        self.calls.append((number, missing, len(chosen)))
        rows = [Row(plan.rollout_id, group_id=plan.group_id, response_tokens=(5,) * 3) for plan in chosen]
        return tables_of(rows)["generate"]

    def count(self, table: pl.DataFrame) -> int:
        return len(self.mixed & {int(name.rsplit("/", 1)[1]) for name in table["group_id"]})

    def run(self, target: int = 4, spare: int = 8, rounds: int = 3) -> list[str]:
        """Groups in the order in which they were sampled."""
        names = [f"extra/s0/i0/{n}" for n in range(target + spare)]
        first = self.roll(1, target, [plan for name in names[:target] for plan in plans(name)])
        table = further_rounds(
            first,
            [plans(name) for name in names[target:]],
            target=target,
            rounds=rounds,
            roll=self.roll,
            count_mixed=self.count,
        )
        return table["group_id"].unique(maintain_order=True).str.split("/").list.last().to_list()


def test_a_round_samples_as_many_new_problems_as_are_missing() -> None:
    """Of four one is mixed: three more; of these two: one more."""
    script = Script({1, 4, 6, 7})
    assert script.run() == list("01234567")
    assert script.calls == [(1, 4, 8), (2, 3, 6), (3, 1, 2)]


def test_rounds_end_with_enough_groups_or_at_their_limit() -> None:
    assert Script({0, 1, 2, 3}).run() == list("0123")
    assert Script({0, 1, 2, 4}).run(rounds=9) == list("01234")
    assert Script(set()).run(rounds=2) == list("01234567")
    assert Script(set()).run(rounds=9, spare=5) == list("012345678")


def test_which_groups_are_mixed() -> None:
    """Groups with both correct and incorrect or truncated rollouts; no equal groups, no continuations."""
    right = {"response": "3 + 4 = 7"}
    rows = [
        *group("rw", group_id="a/s0/i0/0"),
        *group("rr", group_id="a/s0/i0/1"),
        *group("ww", group_id="a/s0/i0/2"),
        *group("r", group_id="a/s0/i0/3"),
        *group("r", group_id="a/s0/i0/4"),
        Row("a/s0/i0/4/1", group_id="a/s0/i0/4", verdict="truncated", finish_reason="length"),
    ]
    rows = [Row(**{**row.__dict__, **(right if row.verdict == "right" else {})}) for row in rows]
    parent = Row("a/s0/i0/9/0", group_id="a/s0/i0/9")
    rows += [parent.continued("a/s0/i1/i0.9/0", 1, **right), parent.continued("a/s0/i1/i0.9/1", 1)]
    table = tables_of(rows)["generate"]
    assert mixed_groups(table, TRAIN, TaskConfig(), VerifierConfig()) == 2


def test_weights_decide_which_groups_are_mixed() -> None:
    """All of them wrong: with a penalty for length a group of responses of one length stays without a signal."""
    even = group("www", group_id="g/0", response="-99")
    odd = group("www", group_id="g/1", response="-99", problem_id="p1")
    rows = [*even, *odd[:2], replace(odd[2], response_tokens=(10, 2))]
    table = tables_of(rows)["generate"]
    assert mixed_groups(table, TRAIN, TaskConfig(), VerifierConfig()) == 0
    assert mixed_groups(table, TRAIN, TaskConfig(), VerifierConfig(), {"correct": 1, "length": -0.001}) == 1


def same_problem(letters: dict[str, list[str]], goes_on: pl.Expr, size: int = 2) -> dict[str, str]:
    """Group -> verdicts of all that was sampled. letters: group -> the verdicts of each of its rounds."""
    rounds = max(map(len, letters.values()))
    calls: list[tuple[int, int]] = []

    def table(number: int, names: list[str]) -> pl.DataFrame:
        rows = [
            Row(f"{name}/{number * size + n}", group_id=name, response=letter)
            for name in names
            for n, letter in enumerate(letters[name][number])
        ]
        return tables_of(rows)["generate"]

    def roll(number: int, groups: int, chosen: Any) -> pl.DataFrame:
        calls.append((number, groups))
        return table(number - 1, list(dict.fromkeys(plan.group_id for plan in chosen)))

    def judge(made: pl.DataFrame) -> pl.DataFrame:
        right = made["response"] == "r"
        return made.select("group_id", reward=right.cast(pl.Float64), right=right).filter(made["response"] != "e")

    further = [[plan for name in letters for plan in plans(name, size)] for _ in range(rounds - 1)]
    made = same_problem_rounds(table(0, list(letters)), further, roll=roll, judge=judge, goes_on=goes_on)
    assert made["rollout_id"].n_unique() == len(made)
    assert [number for number, _ in calls] == list(range(2, 2 + len(calls)))
    found = made.group_by("group_id", maintain_order=True).agg(pl.col("response").str.join(""))
    return dict(found.iter_rows())


def test_only_problems_that_have_not_ended_are_sampled_again() -> None:
    letters = {"a": ["rw", "--", "--"], "b": ["ww", "wr", "--"], "c": ["ww", "ww", "ww"], "d": ["rr", "rr", "rw"]}
    assert same_problem(letters, lacks(1, 1)) == {"a": "rw", "b": "wwwr", "c": "wwwwww", "d": "rrrrrw"}


def test_a_balanced_problem_has_half_a_group_of_each() -> None:
    """Groups of 4 end with 2 correct and 2 incorrect ones; `a` has 3 and 1, then 4 and 4."""
    letters = {"a": ["rrrw", "rwww"], "b": ["rwrw", "----"], "c": ["eeee", "----"]}
    assert same_problem(letters, lacks(2, 2), size=4) == {"a": "rrrwrwww", "b": "rwrw", "c": "eeee"}


def test_only_mixed_halves_are_completed() -> None:
    letters = {"a": ["rw", "ww"], "b": ["ww", "--"], "c": ["rr", "--"], "d": ["re", "--"]}
    assert same_problem(letters, is_mixed()) == {"a": "rwww", "b": "ww", "c": "rr", "d": "re"}


def verdicts_in_order(table: pl.DataFrame) -> dict[str, list[bool]]:
    """Group -> whether each of its rollouts is correct, in the order of their numbers."""
    judged = judged_rollouts(table, TRAIN, TaskConfig(), VerifierConfig())
    return dict(judged.group_by("group_id", maintain_order=True).agg("right").iter_rows())


def tokens_by_name(table: pl.DataFrame) -> dict[str, list[int]]:
    return dict(table.select("rollout_id", "response_tokens").iter_rows())


def test_rounds_on_the_same_problems_end_by_their_verdicts_and_keep_their_names() -> None:
    """Compared with groups of the size of all rounds, of which each problem has the first 2, 4 or 6 rollouts."""
    whole = generated(12, group_size=6)
    ended = generated(12, group_size=2, rounds=3, rounds_on="same_problem")
    expected = {}
    for name, right in verdicts_in_order(whole).items():
        mixed = [size for size in (2, 4) if len(set(right[:size])) == 2]
        expected[name] = (mixed or [6])[0]
    assert dict(ended.group_by("group_id").len().iter_rows()) == expected
    assert len(set(expected.values())) > 1
    of_whole = tokens_by_name(whole)
    assert all(of_whole[name] == tokens for name, tokens in tokens_by_name(ended).items())
    assert ended.equals(generated(12, group_size=2, rounds=3, rounds_on="same_problem"))


def test_problems_that_cannot_be_judged_are_not_sampled_again() -> None:
    """-99 is not the sum of the prompt, so the verifier refuses to judge by it."""
    assert len(generated(2, "-99", rounds=3, rounds_on="same_problem")) == 2 * 3


def test_half_groups_complete_the_mixed_ones_only() -> None:
    whole, halves = generated(12, group_size=6), generated(12, group_size=6, half_groups=True)
    sizes = dict(halves.group_by("group_id").len().iter_rows())
    assert sizes == {name: 6 if len(set(right[:3])) == 2 else 3 for name, right in verdicts_in_order(whole).items()}
    assert set(sizes.values()) == {3, 6}
    of_whole = tokens_by_name(whole)
    assert all(of_whole[name] == tokens for name, tokens in tokens_by_name(halves).items())


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"half_groups": True, "rounds": 2}, "half_groups samples a group in two rounds"),
        ({"half_groups": True, "group_size": 3}, "group_size: 3 is below 4"),
        ({"rounds_until": "balanced"}, "rounds_until: balanced needs rounds_on: same_problem"),
        ({"half_groups": True, "source": "demonstrations"}, "samples nothing"),
    ],
)
def test_rounds_that_do_not_fit_together_are_refused(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        generated(1, **{"group_size": 4, **section})


def test_the_keys_of_rounds_are_left_out_of_jobs_where_they_are_off() -> None:
    arms = {"off": {}, "same": {"generate": {"rounds": 2, "rounds_on": "same_problem"}}}
    experiment = experiment_of({"name": "x", "iterations": 1, "arms": arms})
    assert not {"rounds_on", "rounds_until", "half_groups"} & set(experiment.arms["off"]["generate"])
    assert derive(experiment, "select", "same") == {"rounds": 1}


def test_one_round_is_the_same_as_without_rounds() -> None:
    assert generated(2, rounds=1).equals(generated(2))


def test_all_that_was_sampled_is_in_the_table_and_the_first_round_is_unchanged() -> None:
    """No rollout answers -99, so every group is incorrect and all rounds are used."""
    once, table = generated(2, "-99"), generated(6, "-99", rounds=3)
    assert table.head(6).equals(once)
    assert table["rollout_id"].to_list() == [f"extra/s0/i1/{group}/{n}" for group in range(6) for n in range(3)]
    assert table.equals(generated(6, "-99", rounds=3))
    texts = table.group_by("group_id", maintain_order=True).agg("response")["response"].to_list()
    assert len({tuple(sorted(group)) for group in texts}) > 1


def test_rollouts_of_a_later_round_have_the_tokens_that_their_names_give_them() -> None:
    late, once = generated(6, "-99", rounds=3), generated(6, "-99")
    assert late["response_tokens"].to_list() == once["response_tokens"].to_list()


def test_rounds_end_by_the_tasks_own_verifier() -> None:
    """With the answer that the policy gives now and then some groups are mixed; as many more as are not are sampled."""
    table = generated(8, rounds=4, group_size=8)
    mixed, groups, missing = [], 2, 2
    for first in range(4):
        now = table.filter(pl.col("group_id").is_in([f"extra/s0/i1/{n}" for n in range(groups - missing, groups)]))
        mixed.append(mixed_groups(now, TRAIN, TaskConfig(), VerifierConfig()))
        missing -= mixed[-1]
        if missing == 0 or first == 3:
            break
        groups += missing
    assert table["group_id"].n_unique() == groups
    assert sum(mixed) > 0


def test_a_shard_refuses_rounds() -> None:
    from extra_rl.run.progress import Console
    from extra_rl.run.stage import Context, Inputs, Job

    shared = {"sampling": {}, "compute": {}, "task": {}, "verifier": {}}
    config = generate.Config.model_validate({**shared, "rounds": 2})
    job = Job("generate", 3, 0, {}, "extra", 1, "0of2")
    with pytest.raises(ConfigError, match=r"generation\.shards: 1"):
        generate.run(Inputs({"select": selection(2)}), config, Context(job, {}, Console(None), {}))


def state(next_position: int) -> pl.DataFrame:
    row = dict.fromkeys(contracts.IterationState.columns(), 0) | {"next_position": next_position}
    return frame(contracts.IterationState, [row])


@pytest.mark.parametrize(("rounds", "positions"), [(1, [4, 5]), (3, [7, 8, 9, 10, 11, 12])])
def test_the_next_iteration_begins_behind_the_last_problem_that_was_sampled(rounds: int, positions: list[int]) -> None:
    tables = {"train": TRAIN, "previous_summarize_state": state(7)}
    made = run_stage(select, tables, {"prompts": 2}, derived={"rounds": rounds}, iteration=2)["select"]
    assert made["position"].to_list() == positions
    assert made["group_id"].to_list() == [f"extra/s0/i2/{n}" for n in range(2 * rounds)]
    whole = run_stage(select, {"train": TRAIN}, {"prompts": 20}, iteration=0)["select"]["problem_id"].to_list()
    assert made["problem_id"].to_list() == [whole[position] for position in positions]


def test_the_first_iteration_begins_at_the_beginning() -> None:
    made = run_stage(select, {"train": TRAIN}, {"prompts": 2}, derived={"rounds": 2}, iteration=0)["select"]
    assert made["position"].to_list() == [0, 1, 2, 3]


def test_summarize_passes_on_the_position_in_the_stream(tmp_path: Any) -> None:
    """Groups 0 to 2 of six were sampled, at the positions 10 to 12; an empty iteration passes on its input."""
    rows = [row for n in range(3) for row in group("rw", group_id=f"extra/s0/i1/{n}", problem_id=f"p{n}")]
    outputs = {"summarize": tmp_path / "summarize.parquet"}
    found = {**iteration_tables(rows), "select": selection(6, first=10)}
    made = run_stage(summarize, found, paths=PATHS, outputs=outputs, iteration=1)["summarize_state"]
    assert made["next_position"].to_list() == [13]
    empty = {**iteration_tables([]), "select": selection(0), "previous_summarize_state": made}
    later = run_stage(summarize, empty, paths=PATHS, outputs=outputs, iteration=2)["summarize_state"]
    assert later["next_position"].to_list() == [13]


def test_rounds_are_set_once_and_refused_with_shards() -> None:
    arms = {"grpo": {}, "dapo": {"generate": {"rounds": 3}}}
    found = experiment_of({"name": "x", "iterations": 1, "arms": arms})
    assert {arm: derive(found, "select", arm) for arm in arms} == {"grpo": {"rounds": 1}, "dapo": {"rounds": 3}}
    with pytest.raises(ConfigError, match=r"arms\.dapo: generate\.rounds above 1 needs generation\.shards: 1"):
        experiment_of({"name": "x", "iterations": 1, "arms": arms, "generation": {"shards": 2}})
