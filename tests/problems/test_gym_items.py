"""Items of Reasoning Gym: splits, dropped items, and every data set of the library with its scorer."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest

from extra_rl.config.sections import GymSetConfig, ModelConfig, TaskConfig, VerifierConfig
from extra_rl.errors import ConfigError
from extra_rl.judging import gym_library
from extra_rl.judging.dispatch import Answer, judge_answers
from extra_rl.judging.gym_record import from_json
from extra_rl.planning.counts import held_out, training_problems
from extra_rl.planning.shapes import shape_of
from extra_rl.problems.prepared import tokenizer_of
from stages import prepare
from tests.stages.rows import run_stage

needs_package = pytest.mark.skipif(not gym_library.installed(), reason="the extra reasoning-gym is not installed")

MODEL = {"source": "new", "tokenizer": "bytes", "context_tokens": 1000}
ONE_DIGIT = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}
SUMS = {"dataset": "chain_sum", "config": ONE_DIGIT, "size": 60, "seed": 3}
LATER = {**SUMS, "size": 60, "seed": 4}  # item i of seed 4 is item i + 1 of seed 3
LEGS = {"dataset": "leg_counting", "size": 12}

NO_ORACLE = {"boxnet", "rush_hour"}
"""Data sets without correct answers."""

UNVERIFIABLE = {*NO_ORACLE, "game_of_life_halting"}
"""Data sets of which no item passes; the scorer of the last one accepts any answer."""


def section(sets: dict[str, Any], **changed: Any) -> dict[str, Any]:
    task = {"name": "reasoning_gym", "sets": sets, **changed.pop("task", {})}
    numbers = {"tuning_per_level": 3, "final_per_level": 4, "sampling": {"max_response_tokens": 50}}
    return {"task": task, "model": MODEL, "verifier": {}, **numbers, **changed}


def prepared(sets: dict[str, Any], **changed: Any) -> dict[str, pl.DataFrame]:
    return dict(run_stage(prepare, {}, section(sets, **changed)))


@pytest.fixture(scope="module")
def made() -> dict[str, pl.DataFrame]:
    return prepared({"sums": SUMS, "later": LATER, "legs": LEGS}, train_per_level={"sums": 20})


@needs_package
def test_each_set_is_held_out_first_and_trained_on_up_to_its_cap(made: dict[str, pl.DataFrame]) -> None:
    counts = made["held_out"].group_by("benchmark", "split").len().rows()
    assert sorted(counts) == [
        (name, s, n) for name in ("later", "legs", "sums") for s, n in (("final", 4), ("tuning", 3))
    ]
    final = made["held_out"].filter(benchmark="sums", split="final")["problem_id"]
    assert final.to_list() == ["sums/0", "sums/1", "sums/2", "sums/3"]
    train = dict(made["train"].group_by("benchmark").len().rows())
    assert (train["sums"], train["legs"]) == (20, 5)
    assert made["train"]["benchmark"].to_list() != sorted(made["train"]["benchmark"].to_list())
    assert made["sources"]["dataset"].to_list() == [
        f"reasoning_gym/{d}" for d in ("chain_sum", "chain_sum", "leg_counting")
    ]


@needs_package
def test_questions_are_unique_and_repetitions_are_listed(made: dict[str, pl.DataFrame]) -> None:
    kept = pl.concat([made["train"], made["held_out"]])
    assert kept["canonical"].is_unique().all()
    dropped = made["dropped"]
    assert set(dropped["rule"]) == {"duplicate"}
    texts = dict(kept.select("problem_id", "problem").rows())
    for row in dropped.iter_rows(named=True):
        assert texts[row["other_problem_id"]] == row["problem"]
    first = dropped.filter(problem_id="later/0").row(0, named=True)
    assert (first["split"], first["other_problem_id"]) == ("final", "sums/1")
    held = set(made["held_out"]["problem_id"])
    of_train = dropped.filter(split="train")["other_problem_id"]
    assert any(other in held for other in of_train)  # the training item goes, not the one held out


@needs_package
def test_the_record_reproduces_the_item_and_its_judgement(made: dict[str, pl.DataFrame]) -> None:
    row = made["train"].filter(benchmark="legs").row(0, named=True)
    record = from_json(row["metadata"])
    assert json.loads(row["metadata"])["dataset"] == "leg_counting"
    again = gym_library.make("x", record["dataset"], record["config"], size=12, seed=record["seed"])[record["index"]]
    assert again == record["entry"]
    assert row["problem"] == again["question"]
    assert row["solution"] == f"<answer>{again['answer']}</answer>"
    task = TaskConfig(name="reasoning_gym", sets={"legs": LEGS})
    answer = Answer(row["problem"], row["answer"], row["solution"], True, metadata=row["metadata"])
    assert judge_answers([answer], task, VerifierConfig())[0].verdict == "right"


@needs_package
def test_examples_and_suffix_are_in_every_prompt_and_examples_in_no_split() -> None:
    made = prepared({"sums": SUMS}, task={"examples": 2, "suffix": " Tags!"})
    shown = made["dropped"].filter(rule="example")
    assert len(shown) == 2
    for prompt in [*made["train"]["prompt"], *made["held_out"]["prompt"]]:
        assert "Tags!" in prompt
        assert all(text in prompt for text in shown["problem"])
    assert not set(shown["problem"]) & {*made["train"]["problem"], *made["held_out"]["problem"]}


@needs_package
def test_items_that_cannot_be_verified_or_do_not_fit_are_dropped() -> None:
    sets = {"ab": {"dataset": "ab", "size": 40, "config": {"length": 4}}}
    sets["long"] = {"dataset": "chain_sum", "size": 40, "config": {"max_terms": 150}}
    made = prepared(sets, model={**MODEL, "context_tokens": 590 + 50})
    dropped = made["dropped"]
    assert {"unverifiable", "too_long"} <= set(dropped["rule"])
    assert (
        "judged no_answer" in dropped.filter(rule="unverifiable")["reason"][0]
    )  # the program rewrites to an empty text
    assert dropped.filter(rule="too_long")["prompt_length"].min() > 590


@needs_package
@pytest.mark.parametrize(
    ("sets", "changed", "message"),
    [
        ({"s": {**SUMS, "size": 7}}, {}, "s.size: 7 items are too few: 4 are held out as final and 3 for tuning"),
        ({"s": SUMS}, {"final_per_level": 56}, "can be used .dropped: .* duplicate"),
        ({"s": SUMS}, {"train_per_level": {"t": 1}}, "train_per_level names t; task.sets has s"),
        ({"s": {"dataset": "chain_sums"}}, {}, "task.sets.s.dataset.*nearest: chain_sum"),
        ({"s": {"dataset": "chain_sum", "config": {"min_terms": -1}}}, {}, "task.sets.s.config: chain_sum"),
        ({"s": {"dataset": "rush_hour", "size": 9}}, {}, "none of the 9 items of rush_hour can be verified"),
        ({"s": SUMS}, {"task": {"examples": 64}}, "task.examples: 64"),
    ],
)
def test_config_errors(sets: dict[str, Any], changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prepared(sets, **changed)


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ({}, "needs `sets`"),
        ({"a b": SUMS}, "letters, digits"),
        ({"s": {"dataset": "chain_sum", "config": {"seed": 1}}}, "next to `config`"),
        ({"s": {"dataset": "chain_sum", "size": 0}}, "size"),
    ],
)
def test_sections_are_checked_without_the_package(sets: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TaskConfig(name="reasoning_gym", sets=sets)


def test_a_missing_package_ends_prepare_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gym_library, "installed", lambda: False)
    with pytest.raises(ConfigError, match="pip install reasoning-gym"):
        prepared({"sums": SUMS})


def test_a_new_model_needs_bytes() -> None:
    task, model = TaskConfig(name="reasoning_gym", sets={"s": SUMS}), ModelConfig(tokenizer="words")
    for function in (tokenizer_of, lambda task, model: shape_of(model, task)):
        with pytest.raises(ConfigError, match="a new model for `reasoning_gym` needs `bytes`"):
            function(task, model)


def test_a_plan_counts_from_the_sizes() -> None:
    task = TaskConfig(name="reasoning_gym", sets={"sums": SUMS, "legs": LEGS}).model_dump()
    numbers = {"tuning_per_level": 3, "final_per_level": 4, "train_per_level": {"sums": 20}}
    sections = {"prepare": {"task": task, **numbers}, "evaluate": {"split": "final"}}
    assert training_problems(sections) == 20 + 5
    assert held_out(sections) == {"sums": 4, "legs": 4}


@needs_package
def test_every_data_set_accepts_its_oracle_answer_and_rejects_nonsense() -> None:
    """Two items of each; under a minute of CPU time."""
    from extra_rl.problems.gym_make import made_items

    sets = {name: GymSetConfig(dataset=name, size=2, seed=7) for name in gym_library.names()}
    made = [item for members in made_items(sets, lambda _: None).values() for item in members]
    assert [item.name for item in made if item.record is None] == []
    assert {item.name for item in made if item.oracle is None} == NO_ORACLE
    responses = [(item, text) for item in made for text in (f"<answer>{item.oracle}</answer>", "<answer>qxz</answer>")]
    answers = [Answer(item.question, item.oracle or "", text, True, metadata=item.record) for item, text in responses]
    judged = judge_answers(answers, TaskConfig(name="reasoning_gym", sets=sets), VerifierConfig(timeout_s=20))
    pairs = zip(made, judged[::2], judged[1::2], strict=True)
    wrong = {item.name for item, oracle, nonsense in pairs if oracle.verdict != "right" or nonsense.verdict == "right"}
    assert wrong - {"ab"} == UNVERIFIABLE


@needs_package
@pytest.mark.parametrize("dataset", ["list_functions", "word_ladder", "polynomial_multiplication"])
def test_items_do_not_depend_on_the_hash_seed(dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from extra_rl.problems.gym_make import made_items

    sets = {"s": GymSetConfig(dataset=dataset, size=8)}
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    first = made_items(sets, lambda _: None)
    monkeypatch.setenv("PYTHONHASHSEED", "2")
    assert made_items(sets, lambda _: None) == first
