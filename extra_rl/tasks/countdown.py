"""Countdown: reach a target by folding all the numbers, each used once.

Prompt `3 7 12 = 48 :` asks for steps `a op b = c` with op one of + - * /, every result within 1..99,
divisions exact. Most prefixes of a failed response are dead ends, so regeneration has little to gain here;
the many distinct solutions make it a task for the novelty reward. Source: our decision (O), after the
countdown problems common in the field.
"""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING

from extra_rl.tasks.base import Problem
from extra_rl.tasks.fold import LARGEST_NUMBER, NUMBER_WORDS, FoldTask, Step, calculate, without

if TYPE_CHECKING:
    import numpy as np

    from extra_rl.config.sections import TaskConfig

State = tuple[int, ...]  # the numbers left, sorted

OPERATORS = "+-*/"
NUMBERS = {"L1": 2, "L2": 3, "L3": 4, "L4": 5, "L5": 6, "L6": 7}  # how many numbers a level folds
LARGEST_GIVEN = {"L1": 40}  # pairs of small numbers are too few for three disjoint sets
LARGEST_GIVEN_ELSEWHERE = 12


class Countdown(FoldTask[State]):
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
        """Where random folding ends. It never gets stuck: a > b allows a - b, and a = b allows a / b."""
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
    """The task; it has no settings."""
    return TASK
