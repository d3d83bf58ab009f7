"""A task of one's own: what its class must have, how it is judged, and its check before the first job."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from extra_rl.config.sections import ModelConfig, TaskConfig, VerifierConfig
from extra_rl.errors import ConfigError
from extra_rl.judging.dispatch import Answer, judge_answers
from extra_rl.preflight.faults import refuse_faults
from extra_rl.problems.prepared import generated_problems, tokenizer_of
from extra_rl.tasks.base import Problem
from extra_rl.tasks.load import levels_and_words, load_task
from extra_rl.tasks.own import inspect_task
from extra_rl.tasks.sets import make_sets
from extra_rl.verdict import Scored
from stages.experiment import experiment_of
from tests.config.test_config import MINIMAL

ECHO = """
from extra_rl.tasks.base import Problem

class Echo:
    levels = ("a", "b")

    def sample(self, level, rng):
        number = str(rng.integers(1000))
        return Problem.of("echo", level, f"{level} {number} :", number)

    def judge(self, problem, reference, response, tokens):
        return {"correct": response == reference, "short": len(tokens) < 3}
"""
RUN = {"prepare": {"train_per_level": {"a": 3}, "tuning_per_level": 1, "final_per_level": 1}}
NEW = {"model": {"tokenizer": "bytes"}}


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The name of a module that no other test has imported into this process; it is written by `write`."""
    monkeypatch.chdir(tmp_path)
    return "own_" + "".join(c if c.isalnum() else "_" for c in request.node.name)


def write(module: str, code: str = ECHO, **changes: str) -> str:
    for old, new in changes.items():
        code = code.replace(old, new)
    Path(f"{module}.py").write_text(textwrap.dedent(code))
    return f"{module}:Echo"


def test_it_makes_disjoint_sets_with_prompts(module: str) -> None:
    task = TaskConfig(name=write(module), suffix="!", chat_template=False)
    problems = generated_problems(
        task,
        tokenizer_of(task, ModelConfig(tokenizer="bytes")),
        seed=0,
        train_per_level={"a": 5},
        tuning_per_level=2,
        final_per_level=3,
    )
    assert [p.split for p in problems] == ["train"] * 5 + ["tuning"] * 4 + ["final"] * 6
    assert len({p.canonical for p in problems}) == 15
    first = problems[0]
    assert first.problem_id == f"echo/a/a {first.answer} :"
    assert first.prompt == f"a {first.answer} :!"
    again = make_sets(load_task(task), 0, train={"a": 5}, tuning_per_level=2, final_per_level=3)
    assert [p.answer for p in again.train] == [p.answer for p in problems[:5]]


def test_its_judge_runs_with_what_it_names(module: str) -> None:
    task = TaskConfig(name=write(module))
    answers = [Answer("a 7 :", "7", text, True, tokens=(1,) * count) for text, count in (("7", 2), ("8", 2), ("7", 9))]
    found = judge_answers(answers, task, VerifierConfig())
    assert [j.numbers for j in found if isinstance(j, Scored)] == [
        {"correct": 1.0, "short": 1.0},
        {"correct": 0.0, "short": 1.0},
        {"correct": 1.0, "short": 0.0},
    ]
    assert [j.verdict.value for j in found] == ["right", "wrong", "right"]
    with pytest.raises(ConfigError, match=r"judged by extra_rl\.judging\.dispatch"):
        load_task(task).judge("a 7 :", "7", "7", finished=True)


def test_the_names_of_the_built_in_tasks_can_be_used_too(module: str) -> None:
    old = "problem, reference, response, tokens):"
    code = ECHO.replace(old, "prompt, answer, response, *, finished):").replace("len(tokens) < 3", "finished")
    code = code.replace("response == reference", "response == answer")
    task = TaskConfig(name=write(module, code))
    (found,) = judge_answers([Answer("a 7 :", "7", "7", False)], task, VerifierConfig())
    assert isinstance(found, Scored)
    assert found.numbers == {"correct": 1.0, "short": 0.0}


def test_what_is_known_before_the_first_job(module: str) -> None:
    reference = write(
        module, ECHO + "    vocabulary = ('x', 'y')\n    def demonstration(self, problem, rng): return ''\n"
    )
    assert inspect_task(reference) == {"levels": ["a", "b"], "vocabulary": 2, "demonstrations": True, "repeats": True}
    assert levels_and_words(TaskConfig(name=reference)) == (("a", "b"), 2)
    assert levels_and_words(TaskConfig())[1] == 105


FAULTS: dict[str, tuple[dict[str, str], dict[str, Any], str]] = {
    "no levels": ({'levels = ("a", "b")': "pass"}, NEW, "needs `levels`"),
    "levels twice": ({'("a", "b")': '("a", "a")'}, NEW, "names one twice"),
    "no judge": ({"def judge": "def other"}, NEW, "has no method `judge`"),
    "judge": ({"problem, reference": "gold, reference"}, NEW, "Echo.judge has the parameter `gold`"),
    "no sample": ({"def sample": "def other"}, NEW, "has no method `sample`"),
    "raises": ({"number = ": "raise KeyError(level) or "}, NEW, "fails: KeyError: 'a'"),
    "returns text": ({"return Problem.of": "return str"}, NEW, "fails: TypeError"),
    "returns none": ({"return Problem.of": "Problem.of"}, NEW, "returned NoneType; it must return an"),
    "an answer that is no text": ({", number)\n\n": ", int(number))\n\n"}, NEW, "returned a Problem with the answer"),
    "another level": ({'"echo", level,': '"echo", "x",'}, NEW, "returned a Problem with the level 'x'"),
    "other randomness": (
        {"rng.integers(1000)": "__import__('random').random()"},
        NEW,
        "different problems for the same",
    ),
    "arguments": (
        {"class Echo:": "class Echo:\n    def __init__(self, config): pass\n"},
        NEW,
        "cannot be made: TypeError",
    ),
    "no such class": ({"class Echo": "class Ecco"}, NEW, "defines no Echo; it defines Ecco."),
    "words": ({}, {}, "has no `vocabulary`"),
    "level": ({}, NEW | {"prepare": {"train_per_level": {"c": 1}}}, "has no level 'c'; it has a, b"),
    "warm start": ({}, NEW | {"warm_start": {"steps": 2, "stop_at": 1}}, "warm_start.steps: "),
    "weights": ({}, NEW | {"verify": {"weights": {"shrt": 1}}}, "verify.weights.shrt"),
    "import": ({"from extra_rl.tasks.base": "from nowhere"}, NEW, "ModuleNotFoundError"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_faults_are_found_before_the_first_job(case: str, module: str, tmp_path: Path) -> None:
    changes, config, said = FAULTS[case]
    for old in changes:
        assert old in ECHO
    code = ECHO
    for old, new in changes.items():
        code = code.replace(old, new)
    reference = write(module, code)
    experiment = experiment_of(MINIMAL | RUN | {"task": {"name": reference}} | config)
    with pytest.raises(ConfigError) as raised:
        refuse_faults(experiment, tmp_path / "results", problems=True, model=False, packages=True)
    assert said in str(raised.value)


def test_a_good_task_has_none(module: str, tmp_path: Path) -> None:
    experiment = experiment_of(MINIMAL | RUN | NEW | {"task": {"name": write(module)}})
    refuse_faults(experiment, tmp_path / "results", problems=True, model=False, packages=True)


def test_demonstrations_and_words_are_asked_for_where_they_are_needed(module: str) -> None:
    task = load_task(TaskConfig(name=write(module)))
    with pytest.raises(ConfigError, match="has no method `demonstration"):
        task.demonstration(task.sample("a", np.random.default_rng(0)), np.random.default_rng(0))
    with pytest.raises(ConfigError, match="has no `vocabulary`"):
        tokenizer_of(TaskConfig(name=f"{module}:Echo"), ModelConfig())
    assert Problem.of("t", "l", "p", "a") == Problem("t/l/p", "p", "l", "p", "a")
