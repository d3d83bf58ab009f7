"""What a generated task is: problems with their prompt text, demonstrations, and a verifier.

A new task is one file in this folder with a function `make(config)` that gives a `Task`, and its name in `TASKS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from extra_rl.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from extra_rl.config.sections import TaskConfig
    from extra_rl.verdict import Judgement

TASKS = ("signed_sum", "countdown", "arithmetic")

MAX_MISSES_IN_A_ROW = 20_000  # a level of n problems with one left is missed so often with probability e^(-20000/n)


@dataclass(frozen=True)
class Problem:
    """One problem of a generated task.

    problem_id: stable, unique and readable, for example "signed_sum/L3/4+12+6-10".
    canonical: equal for problems that differ in the order of their numbers only; sets are disjoint by it.
    prompt: the problem's text, before examples and template.
    """

    problem_id: str
    canonical: str
    level: str
    prompt: str
    answer: str


class Task(Protocol):
    """A generated task. All texts are words of `vocabulary` joined by single spaces.

    `prompt` below is the text of `Problem.prompt`.
    """

    name: str
    levels: tuple[str, ...]
    vocabulary: tuple[str, ...]
    boundary_token: str  # the word that ends a reasoning step: where a prefix may be cut

    def sample(self, level: str, rng: np.random.Generator) -> Problem:
        """One random problem of the level."""

    def demonstration(self, problem: Problem, rng: np.random.Generator) -> str:
        """A random right response: what the warm start imitates."""

    def judge(self, prompt: str, answer: str, response: str, *, finished: bool) -> Judgement:
        """The verdict on a response; `finished` is false when it was cut off at the token limit."""

    def can_end_right(self, prompt: str, answer: str, beginning: str) -> bool:
        """Whether a right response may begin like this, as far as its last whole step."""


def load_task(config: TaskConfig) -> Task:
    """The generated task of a section `task`. Raises ConfigError for a name that is none of TASKS."""
    if config.name not in TASKS:
        raise ConfigError(f"task.name: {config.name} is no generated task; these are {', '.join(TASKS)}")
    task: Task = import_module(f"extra_rl.tasks.{config.name}").make(config)
    return task


def generate(
    task: Task, level: str, count: int, rng: np.random.Generator, exclude: frozenset[str] = frozenset()
) -> list[Problem]:
    """`count` problems of a level, distinct by canonical key and with none of the keys in `exclude`.

    Raises ConfigError when the level is unknown or has too few problems left.
    """
    if level not in task.levels:
        raise ConfigError(f"task {task.name} has no level {level!r}; it has {', '.join(task.levels)}")
    problems: dict[str, Problem] = {}
    misses = 0
    while len(problems) < count:
        problem = task.sample(level, rng)
        if problem.canonical in exclude or problem.canonical in problems:
            misses += 1
            if misses == MAX_MISSES_IN_A_ROW:
                raise ConfigError(
                    f"task {task.name}, level {level}: {count} distinct problems wanted besides "
                    f"{len(exclude)} reserved, only {len(problems)} found; ask for fewer"
                )
            continue
        misses = 0
        problems[problem.canonical] = problem
    return list(problems.values())
