"""A task of one's own: a class in the user's package that `task.name: module:Class` names.

It needs `levels`, `sample(level, rng) -> Problem` and `judge(...)`. `demonstration(problem, rng) -> str` is for worked
solutions (warm start, `task.examples`), `vocabulary` for a new model that reads whole words. `judge` may have the
parameters and return what a judge function may (`judging.function`); it runs in processes that can be killed, all other
methods run in the stages.

`python -m extra_rl.tasks.own QUESTION FD` tries a task in a child process, before the first job.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extra_rl.errors import ConfigError
from extra_rl.tasks.base import Problem
from extra_rl.user_code import digest, find, inspected, load

if TYPE_CHECKING:
    import numpy as np

    from extra_rl.verdict import Judgement

DEMONSTRATION = (
    "has no method `demonstration(self, problem, rng)`, which returns a correct response. It is needed for "
    "warm_start.steps, task.examples and generate.source: demonstrations"
)
VOCABULARY = "has no `vocabulary`, the words of all its texts. Set model.tokenizer: bytes, or use a model that exists"


class OwnTask:
    """A user's task with the interface of `Task`. What the user's class lacks is a ConfigError where it is needed."""

    def __init__(self, reference: str, made: Any) -> None:
        self._reference, self.made = reference, made
        self.name = str(getattr(made, "name", None) or reference.rpartition(":")[2])
        self.levels = levels_of(made, reference)
        self.boundary_token = str(getattr(made, "boundary_token", ";"))
        self.vocabulary: tuple[str, ...] = tuple(getattr(made, "vocabulary", None) or ())
        """Words of all texts; empty where the user's class names none."""

    def sample(self, level: str, rng: np.random.Generator) -> Problem:
        """Return a random problem of the level. ConfigError for anything else than a `Problem` of text."""
        problem = self.made.sample(level, rng)
        if not isinstance(problem, Problem):
            raise ConfigError(
                f"{self._reference}.sample({level!r}, rng) returned {type(problem).__name__}; it must return an "
                "extra_rl.tasks.base.Problem, for example Problem.of(task, level, prompt, answer)."
            )
        fields = {name: value for name, value in vars(problem).items() if not isinstance(value, str) or not value}
        if fields or problem.level != level:
            wrong = ", ".join(f"{name} {value!r}" for name, value in fields.items()) or f"level {problem.level!r}"
            raise ConfigError(f"{self._reference}.sample({level!r}, rng) returned a Problem with the {wrong}.")
        return problem

    def demonstration(self, problem: Problem, rng: np.random.Generator) -> str:
        """Return a random correct response. ConfigError where the user's class makes none."""
        make = getattr(self.made, "demonstration", None)
        if make is None:
            raise ConfigError(f"{self._reference} {DEMONSTRATION}.")
        return str(make(problem, rng))

    def judge(self, prompt: str, answer: str, response: str, *, finished: bool) -> Judgement:
        """Refuse to judge: the user's `judge` runs only in processes that can be killed (`judging.dispatch`)."""
        raise ConfigError(f"{self._reference}: its responses are judged by extra_rl.judging.dispatch.judge_answers.")

    def can_end_right(self, prompt: str, answer: str, beginning: str) -> bool:
        """Return what the user's method says. ConfigError without one."""
        method = getattr(self.made, "can_end_right", None)
        if method is None:
            raise ConfigError(f"{self._reference} has no method `can_end_right(self, prompt, answer, beginning)`.")
        return bool(method(prompt, answer, beginning))


def levels_of(made: Any, reference: str) -> tuple[str, ...]:
    """Return the levels of a user's task. ConfigError unless they are distinct texts that can be part of a name."""
    levels = getattr(made, "levels", None)
    if not isinstance(levels, list | tuple) or not levels or not all(isinstance(x, str) and x for x in levels):
        raise ConfigError(f'{reference} needs `levels`, a tuple of names, for example levels = ("easy", "hard").')
    if len(set(levels)) < len(levels):
        raise ConfigError(f"{reference}: `levels` names one twice: {', '.join(levels)}.")
    return tuple(levels)


def own_task(reference: str) -> OwnTask:
    """Import and return a user's task. Raises ConfigError where it cannot be made or lacks a part."""
    find(reference)
    try:
        made = load(reference)()
    except ConfigError:
        raise
    except Exception as error:  # a user's code may raise anything
        raise ConfigError(f"{reference} cannot be made: {type(error).__name__}: {error}") from error
    for method in ("sample", "judge"):
        if not callable(getattr(made, method, None)):
            raise ConfigError(f"{reference} has no method `{method}` (docs/rewards.md).")
    return OwnTask(reference, made)


def inspect_task(reference: str) -> Mapping[str, Any]:
    """Try a user's task in a child process, once for each version of its files.

    It returns `levels`, `vocabulary` (number of words, 0 without one), `demonstrations` (whether it makes any), and
    `repeats` (whether the same generator gives the same problem). Raises ConfigError for a task that cannot be used.
    """
    return _inspected(reference, digest(reference))


@lru_cache(maxsize=8)
def _inspected(reference: str, source: str) -> Mapping[str, Any]:
    try:
        found = inspected("extra_rl.tasks.own", {"reference": reference})
    except ConfigError as error:
        raise ConfigError(f"{reference}: {error}") from None
    if found.get("fault"):
        raise ConfigError(str(found["fault"]))
    return found


def tried(reference: str) -> dict[str, Any]:
    """Make the task in this process and sample each level twice with the same seed. Raises ConfigError."""
    from extra_rl.seeding import generator

    task = own_task(reference)
    made = task.made
    repeats = all(
        task.sample(level, generator(0, level)) == task.sample(level, generator(0, level)) for level in task.levels
    )
    demonstrations = callable(getattr(made, "demonstration", None))
    if demonstrations:
        task.demonstration(task.sample(task.levels[0], generator(0)), generator(0))
    return {
        "levels": task.levels,
        "vocabulary": len(task.vocabulary),
        "demonstrations": demonstrations,
        "repeats": repeats,
    }


def main(words: list[str]) -> None:
    """Answer a question of `inspect_task`: what was found, or the fault."""
    question = json.loads(words[0])
    try:
        found = tried(question["reference"])
    except ConfigError as error:
        found = {"fault": str(error)}
    except Exception as error:  # a user's code may raise anything
        found = {"fault": f"{question['reference']} fails: {type(error).__name__}: {error}"}
    with os.fdopen(int(words[1]), "w") as answer:
        json.dump(found, answer)


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    main(sys.argv[1:])
