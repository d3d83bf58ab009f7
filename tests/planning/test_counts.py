"""Counts by hand from small configurations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from extra_rl.config.experiment import Experiment
from extra_rl.planning import counts
from extra_rl.planning.counts import Assumptions
from stages.experiment import experiment_of

BASE: dict[str, Any] = {
    "name": "small",
    "iterations": 5,
    "model": {"context_tokens": 100},
    "sampling": {"max_response_tokens": 60},
    "select": {"prompts": 10},
    "generate": {"group_size": 4},
    "choose_prefixes": {"cut": "every_boundary", "first_cut": 0.25, "last_cut": 0.75},
    "arms": {"grpo": {}},
}
HALF = Assumptions(response=20.0, prompt=10.0, hard_share=0.5)


def experiment(**changes: Any) -> Experiment:
    merged = {
        key: {**BASE[key], **value} if isinstance(value, dict) and key in BASE and key != "arms" else value
        for key, value in changes.items()
    }
    return experiment_of(BASE | merged)


def sections(**changes: Any) -> counts.Sections:
    return experiment(**changes).arms["grpo"]


def test_without_regeneration_there_are_fresh_rollouts_only() -> None:
    found = counts.at_most(sections())
    assert (found.fresh, found.regenerated, found.tokens) == (40, 0, 40 * 60)
    assert counts.expected(sections(), HALF).tokens == 40 * 20
    assert counts.longest_prompt(sections()) == 40


def test_regenerated_rollouts_are_groups_times_prefixes_times_continuations() -> None:
    some = sections(choose_prefixes={"groups": 3, "prefixes_per_problem": 2, "continuations_per_prefix": 5})
    assert counts.at_most(some).regenerated == 3 * 2 * 5
    assert counts.at_most(some).tokens == (40 + 30) * 60
    mean = counts.expected(some, HALF)
    assert (mean.prefix, mean.continuation) == (10, 10)  # cut in the middle of 25 to 75 %
    assert mean.tokens == 40 * 20 + 30 * 10
    assert mean.response_tokens == 70 * 20


def test_all_hard_serves_every_hard_group() -> None:
    every = sections(choose_prefixes={"groups": "all_hard", "prefixes_per_problem": 1, "continuations_per_prefix": 4})
    assert counts.at_most(every).regenerated == 40
    assert counts.expected(every, HALF).regenerated == 20
    assert counts.expected(every, HALF).served == 5


def test_no_more_groups_are_served_than_there_are() -> None:
    many = sections(choose_prefixes={"groups": 8, "prefixes_per_problem": 1, "continuations_per_prefix": 1})
    assert counts.expected(many, HALF).served == 5
    assert counts.at_most(many).served == 8


def test_a_fresh_resample_has_no_prefix() -> None:
    fresh = sections(choose_prefixes={"groups": 1, "cut": "none"})
    assert counts.expected(fresh, HALF).prefix == counts.at_most(fresh).prefix == 0
    assert counts.expected(fresh, HALF).continuation == 20


@pytest.mark.parametrize(("when", "first", "expected"), [("same_iteration", 0, 5), ("next_iteration", 0, 4)])
def test_queued_prefixes_are_sampled_an_iteration_later(when: str, first: int, expected: int) -> None:
    made = experiment(choose_prefixes={"groups": 1, "when": when}, first_iteration=first)
    assert counts.regenerating_iterations(made.arms["grpo"], made.run, 5) == expected


@pytest.mark.parametrize(
    ("warmup", "when", "first", "expected"),
    [
        (2, "same_iteration", 0, 3),
        (2, "next_iteration", 0, 2),
        (2, "next_iteration", 3, 2),
        (9, "same_iteration", 0, 0),
    ],
)
def test_a_warm_up_regenerates_nothing(warmup: int, when: str, first: int, expected: int) -> None:
    made = experiment(choose_prefixes={"groups": 1, "when": when, "warmup_iterations": warmup}, first_iteration=first)
    assert counts.regenerating_iterations(made.arms["grpo"], made.run, 5 - first) == expected


def test_a_window_goes_on_from_what_was_queued_before_it() -> None:
    made = experiment(choose_prefixes={"groups": 1, "when": "next_iteration"}, first_iteration=2)
    assert counts.iterations_of(made.run) == 3
    assert counts.regenerating_iterations(made.arms["grpo"], made.run, 3) == 3


def test_a_token_budget_ends_the_sampling() -> None:
    made = sections(select={"token_budget": 1700})
    mean = counts.expected(made, HALF)
    assert counts.active_iterations(made, 5, mean) == 3  # 800 tokens each: the third iteration reaches 1,700
    assert counts.sampled_tokens(made, 5, 0, counts.at_most(made)) == 1700 + 2400  # one iteration overshoots
    assert counts.sampled_tokens(made, 3, 0, mean) == 2400


def test_evaluations_and_jobs() -> None:
    made = experiment(evaluate_every=2, seeds=[0, 1, 2], arms={"a": {}, "b": {"audit": {"judge": "string"}}})
    assert counts.evaluations_of(made.run) == 3  # after iterations 2 and 4, and the last
    assert counts.jobs(made.run, made.arms) == 6 + 3 * (2 * (5 * 12 + 3) + 5 * 2)
    sharded = experiment(evaluate_every=2, generation={"shards": 4})
    assert counts.jobs(sharded.run, sharded.arms) == 6 + 5 * (10 + 2 * (4 + 1)) + 3  # four parts each, and a gathering
    assert counts.evaluations_of(experiment().run) == 1
    # The last iteration is evaluated once, also where it is a k-th one.
    assert counts.evaluations_of(experiment(evaluate_every=5).run) == 1


def test_problems_of_a_generated_task() -> None:
    made = sections(prepare={"train_per_level": {"L1": 7, "L2": 8}, "final_per_level": 9, "tuning_per_level": 3})
    assert counts.training_problems(made) == 15
    assert counts.held_out(made) == {f"L{i}": 9 for i in range(1, 7)}
    assert set(counts.held_out({**made, "evaluate": {**made["evaluate"], "split": "tuning"}}).values()) == {3}


def test_problems_of_benchmarks_and_files(tmp_path: Path) -> None:
    file = tmp_path / "own.parquet"
    pl.DataFrame({"problem": ["a", "b", "c"], "answer": ["1", "2", "3"], "id": ["x", "y", "z"]}).write_parquet(file)
    (tmp_path / "own.jsonl").write_text('{"problem": "a", "answer": "1", "id": "x"}\n' * 2)
    task = {
        "name": "math",
        "train": {"mine": {"path": str(file), "limit": 2}, "other": {"path": str(tmp_path / "own.jsonl")}},
        "benchmarks": {"aime24": {}, "math500": {"limit": 10}, "own": {"path": str(file)}},
    }
    made = sections(task=task)
    assert counts.training_problems(made) == 4
    assert counts.held_out(made) == {"aime24": 30, "math500": 10, "own": 3}


def test_what_only_the_data_can_tell_is_not_guessed() -> None:
    task = {"name": "math", "train": {"path": "missing.parquet"}, "benchmarks": {"x": {"dataset": "someone/x"}}}
    assert counts.training_problems(sections(task=task)) is None
    assert counts.held_out(sections(task=task)) == {"x": None}


def test_rounds_sample_again_as_many_problems_as_are_not_mixed() -> None:
    """Of ten problems half are hard: five more, then 2.5; at most ten in every round."""
    three = sections(generate={"rounds": 3}, choose_prefixes={"groups": "all_hard"})
    assert counts.expected(three, HALF).fresh == 4 * 18  # 17.5, rounded up
    assert counts.expected(three, HALF).hard == 9
    assert counts.at_most(three).fresh == 3 * 40
    with_one = sections(generate={"rounds": 1})
    assert counts.expected(with_one, HALF).fresh == 40
