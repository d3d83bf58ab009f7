"""Countdown: reach a target by folding all numbers, each used once.

A response to `3 7 12 = 48 :` is a sequence of steps `a op b = c` with op one of + - * /, results within 1..99 and exact
divisions. Most prefixes of a failed response are dead ends, so regeneration gains little here. There are many distinct
solutions, which suits the novelty reward. Source: our decision (O), after the countdown problems common in the field.
"""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING

from extra_rl.tasks.base import Problem
from extra_rl.tasks.fold import LARGEST_NUMBER, NUMBER_WORDS, FoldTask, Step, calculate, without

if TYPE_CHECKING:
    import numpy as np

    from extra_rl.config.sections import TaskConfig

State = tuple[int, ...]  # the remaining numbers, sorted

OPERATORS = "+-*/"
NUMBERS = {"L1": 2, "L2": 3, "L3": 4, "L4": 5, "L5": 6, "L6": 7}  # numbers per problem
LARGEST_GIVEN = {"L1": 40}  # there are too few pairs of small numbers for three disjoint sets
LARGEST_GIVEN_ELSEWHERE = 12


class Countdown(FoldTask[State]):
    """The task. `FoldTask` replays the steps."""

    name = "countdown"
    levels = tuple(NUMBERS)
    vocabulary = (*NUMBER_WORDS, *OPERATORS, "=", ";", ":")

    def sample(self, level: str, rng: np.random.Generator) -> Problem:
        largest = LARGEST_GIVEN.get(level, LARGEST_GIVEN_ELSEWHERE)
        numbers: list[int] = rng.integers(1, largest + 1, size=NUMBERS[level]).tolist()
        target = self._random_target(tuple(sorted(numbers)), rng)
        return Problem(
            problem_id=f"{self.name}/{level}/{','.join(map(str, numbers))}={target}",
            canonical=f"{','.join(map(str, sorted(numbers)))}={target}",
            level=level,
            prompt=f"{' '.join(map(str, numbers))} = {target} :",
            answer=str(target),
        )

    def _random_target(self, state: State, rng: np.random.Generator) -> int:
        """Return the result of random folding. A step always exists: a > b allows a - b, and a = b allows a / b."""
        while len(state) > 1:
            steps = self.steps(state)
            (state,) = self.successors(state, steps[rng.integers(len(steps))])
        return state[0]

    def read(self, prompt: str, answer: str) -> tuple[State, State]:
        numbers_text, _, target_text = prompt.removesuffix(":").partition("=")
        if int(answer) != int(target_text):
            raise ValueError(f"the answer to {prompt!r} is not {answer!r}")
        return tuple(sorted(int(word) for word in numbers_text.split())), (int(answer),)

    def steps(self, state: State) -> list[Step]:
        folds = ((a, op, b, calculate(a, op, b)) for a, b in permutations(state, 2) for op in OPERATORS)
        return [Step(a, op, b, c) for a, op, b, c in folds if c is not None and 1 <= c <= LARGEST_NUMBER]

    def successors(self, state: State, step: Step) -> list[State]:
        rest = without(state, step.left, step.right)
        if rest is None or not 1 <= step.result <= LARGEST_NUMBER:
            return []
        return [tuple(sorted((*rest, step.result)))]


TASK = Countdown()


def make(config: TaskConfig) -> Countdown:
    """Return the task, which has no settings."""
    return TASK
