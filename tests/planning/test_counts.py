"""Counts by hand from small configurations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from extra_rl.config.experiment import Experiment
from extra_rl.planning import counts
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
    assert (found.fresh, found.regenerated, found.sampled_tokens) == (40, 0, 40 * 60)
    assert counts.longest_prompt(sections()) == 40


def test_regenerated_rollouts_are_groups_times_prefixes_times_continuations() -> None:
    found = counts.at_most(
        sections(choose_prefixes={"groups": 3, "prefixes_per_problem": 2, "continuations_per_prefix": 5})
    )
    assert (found.continued, found.contexts, found.regenerated) == (3, 6, 30)
    assert found.sampled_tokens == found.response_tokens == (40 + 30) * 60
    assert found.prefix == 0.75 * 60


@pytest.mark.parametrize(("groups", "continued"), [("all_hard", 10), (8, 8), (12, 10)])
def test_no_more_groups_are_continued_than_there_are(groups: Any, continued: int) -> None:
    many = sections(choose_prefixes={"groups": groups, "prefixes_per_problem": 1, "continuations_per_prefix": 4})
    assert counts.at_most(many).continued == continued
    assert counts.at_most(many).regenerated == 4 * continued


def test_a_fresh_resample_has_no_prefix() -> None:
    assert counts.at_most(sections(choose_prefixes={"groups": 1, "cut": "none"})).prefix == 0


def test_replays_are_rows_times_continuations_with_a_prefix_each() -> None:
    replay = {"rows": 3, "continuations": 8, "last_cut": 0.9}
    found = counts.at_most(sections(choose_prefixes={"replay": replay}))
    assert (found.continued, found.contexts, found.regenerated, found.prefix) == (0, 3, 24, pytest.approx(54))
    both = {"groups": 3, "prefixes_per_problem": 2, "continuations_per_prefix": 5, "replay": replay}
    found = counts.at_most(sections(choose_prefixes=both))
    assert (found.continued, found.contexts, found.regenerated) == (3, 9, 54)
    assert counts.at_most(sections(choose_prefixes={"replay": {**replay, "cut": "prompt"}})).prefix == 0


def test_rounds_sample_all_problems_again_at_most() -> None:
    assert counts.at_most(sections(generate={"rounds": 3})).fresh == 3 * 40


def test_demonstrations_are_rows_but_not_sampled() -> None:
    made = experiment(generate={"source": "demonstrations"})
    found = counts.at_most(made.arms["grpo"])
    assert (found.fresh, found.sampled_tokens, found.response_tokens) == (40, 0, 40 * 60)
    assert counts.tokens_of_run(made.arms["grpo"], made.run, 20) == (0, 5 * 40 * 20)
    assert counts.flop_at_most(made.arms["grpo"], 10) == (2 + 6) * 10 * 40 * 100


def test_flop_by_hand() -> None:
    """10 weights: 2N for 64 rollouts of 60 tokens, 10 prompts of 40 and 6 contexts of 85, 64 rows of 100; 6N twice."""
    made = sections(
        choose_prefixes={"groups": 3, "prefixes_per_problem": 2, "continuations_per_prefix": 4}, update={"epochs": 2}
    )
    sampling = 2 * 10 * (64 * 60 + 10 * 40 + 6 * 85)
    assert counts.flop_at_most(made, 10) == sampling + 2 * 10 * 64 * 100 + 6 * 10 * 2 * 64 * 100


@pytest.mark.parametrize(
    ("warmup", "when", "first", "expected"),
    [
        (0, "same_iteration", 0, 5),
        (0, "next_iteration", 0, 4),
        (2, "same_iteration", 0, 3),
        (2, "next_iteration", 0, 2),
        (2, "next_iteration", 3, 2),
        (0, "next_iteration", 2, 3),  # a window goes on from what was queued before it
        (9, "same_iteration", 0, 0),
    ],
)
def test_a_warm_up_and_a_queue_delay_continuations(warmup: int, when: str, first: int, expected: int) -> None:
    made = experiment(choose_prefixes={"groups": 1, "when": when, "warmup_iterations": warmup}, first_iteration=first)
    assert counts.regenerating_iterations(made.arms["grpo"], made.run) == expected
    assert counts.iterations_of(made.run) == 5 - first


def test_a_token_budget_ends_the_sampling_with_the_iteration_that_reaches_it() -> None:
    made = experiment(select={"token_budget": 1700})
    assert counts.tokens_of_run(made.arms["grpo"], made.run, 60) == (1700 + 2400, 1700 + 2400)
    assert counts.tokens_of_run(made.arms["grpo"], made.run, 5) == (5 * 200, 5 * 200)
    assert counts.with_budget(50.0, 10.0, 20.0) == 30.0
    assert counts.with_budget(50.0, 10.0, None) == 50.0


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
    made = sections(task=task, model={"tokenizer": "bytes"})
    assert counts.training_problems(made) == 4
    assert counts.held_out(made) == {"aime24": 30, "math500": 10, "own": 3}


def test_counts_known_only_from_the_data_are_none() -> None:
    task = {"name": "math", "train": {"path": "missing.parquet"}, "benchmarks": {"x": {"dataset": "someone/x"}}}
    made = sections(task=task, model={"tokenizer": "bytes"})
    assert counts.training_problems(made) is None
    assert counts.held_out(made) == {"x": None}
