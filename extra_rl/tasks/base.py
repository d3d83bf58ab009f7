"""The interface of a generated task: problems with prompt text, demonstrations, and a verifier.

A task of this library is one file in this folder with a function `make(config)` that returns a `Task`, and its name in
`config.judges.TASKS`. A task of one's own is a class in the user's package (`extra_rl.tasks.own`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from extra_rl.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from extra_rl.verdict import Judgement

MAX_MISSES_IN_A_ROW = 20_000
"""Misses after which a level is exhausted. With one of n problems left, all miss with probability e^(-20000/n)."""


@dataclass(frozen=True)
class Problem:
    """One problem of a generated task.

    Args:
        problem_id: stable, unique and readable, for example "signed_sum/L3/4+12+6-10".
        canonical: key that ignores the order of the numbers. Problem sets are disjoint by this key.
        level: of difficulty.
        prompt: the problem's text, before examples and template.
        answer: the reference answer.
    """

    problem_id: str
    canonical: str
    level: str
    prompt: str
    answer: str

    @classmethod
    def of(cls, task: str, level: str, prompt: str, answer: str) -> Problem:
        """Return a problem whose prompt identifies it. task: name of the task, for the id."""
        return cls(f"{task}/{level}/{prompt}", prompt, level, prompt, answer)


class Task(Protocol):
    """A generated task. All texts are words of `vocabulary`, joined by single spaces.

    The argument `prompt` of the methods is `Problem.prompt`.
    """

    name: str
    levels: tuple[str, ...]
    vocabulary: tuple[str, ...]
    boundary_token: str  # the word that ends a reasoning step, after which a prefix may be cut

    def sample(self, level: str, rng: np.random.Generator) -> Problem:
        """Return a random problem of the level."""

    def demonstration(self, problem: Problem, rng: np.random.Generator) -> str:
        """Return a random correct response, which the warm start imitates."""

    def judge(self, prompt: str, answer: str, response: str, *, finished: bool) -> Judgement:
        """Return the judgement of a response. finished: false if it was cut off at the token limit."""

    def can_end_right(self, prompt: str, answer: str, beginning: str) -> bool:
        """Return whether a correct response can begin with the complete steps of `beginning`."""


def generate(
    task: Task, level: str, count: int, rng: np.random.Generator, exclude: frozenset[str] = frozenset()
) -> list[Problem]:
    """Return problems of a level that are distinct by canonical key.

    Args:
        task: makes the problems.
        level: of the task.
        count: number of problems.
        rng: consumed until there are `count` problems.
        exclude: canonical keys that are not returned.

    Raises ConfigError if the level is unknown or has too few problems left.
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
                    f"task {task.name}, level {level}: {count} distinct problems are required in addition to "
                    f"{len(exclude)} excluded ones, but only {len(problems)} were found; request fewer"
                )
            continue
        misses = 0
        problems[problem.canonical] = problem
    return list(problems.values())
