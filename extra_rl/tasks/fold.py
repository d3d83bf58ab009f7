"""Tasks that fold numbers two at a time: `a op b = c`, steps joined by ` ; `.

Demonstrations and verifier use the same rules of a task (`steps`, `successors`). The verifier replays every step, so a
correct final number after an incorrect step does not count. Source: our decision (O), after the prototype's task.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Hashable
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import numpy as np

from extra_rl.verdict import Judgement, Verdict

if TYPE_CHECKING:
    from extra_rl.tasks.base import Problem

LARGEST_NUMBER = 99
NUMBER_WORDS = tuple(str(n) for n in range(LARGEST_NUMBER + 1))

# At most four ASCII digits: int() also reads digits of other scripts, and is slow for millions of digits.
STEP_PATTERN = re.compile(r"([0-9]{1,4}) ([-+*/]) ([0-9]{1,4}) = ([0-9]{1,4})")

State = TypeVar("State", bound=Hashable)


class Step(NamedTuple):
    """One written step: `left operator right = result`."""

    left: int
    operator: str
    right: int
    result: int

    def __str__(self) -> str:
        return f"{self.left} {self.operator} {self.right} = {self.result}"


def calculate(left: int, operator: str, right: int) -> int | None:
    """Return the value of `left operator right`; None if it is negative or a division has a remainder."""
    if operator == "+":
        return left + right
    if operator == "*":
        return left * right
    if operator == "-":
        return left - right if left >= right else None
    return left // right if right and left % right == 0 else None


def parse_step(text: str) -> Step | None:
    """Return the step in a text between two boundaries, None if it is not exactly one step."""
    match = STEP_PATTERN.fullmatch(" ".join(text.split()))
    if match is None:
        return None
    return Step(int(match[1]), match[2], int(match[3]), int(match[4]))


def without(numbers: tuple[int, ...], *used: int) -> tuple[int, ...] | None:
    """Return the numbers without one occurrence of each used one; None if one is missing."""
    rest = list(numbers)
    for number in used:
        if number not in rest:
            return None
        rest.remove(number)
    return tuple(rest)


class FoldTask(ABC, Generic[State]):
    """Base class of the folding tasks: the replaying verifier and random solutions.

    A subclass defines the state, how it is read from a prompt, and the steps between states.
    """

    name: str
    levels: tuple[str, ...]
    vocabulary: tuple[str, ...]
    boundary_token: str = ";"

    @abstractmethod
    def sample(self, level: str, rng: np.random.Generator) -> Problem:
        """Return a random problem of the level."""

    @abstractmethod
    def read(self, prompt: str, answer: str) -> tuple[State, State]:
        """Return start and goal state. Raises ValueError if prompt and answer do not belong to the same problem."""

    @abstractmethod
    def steps(self, state: State) -> list[Step]:
        """Return the allowed steps in a state, one for each ordered pair of numbers that folds."""

    @abstractmethod
    def successors(self, state: State, step: Step) -> list[State]:
        """Return the states after an arithmetically correct step; empty if its operands are not available.

        There are several if the text does not determine which of two equal numbers is meant.
        """

    def demonstration(self, problem: Problem, rng: np.random.Generator) -> str:
        """Return a random solution. Raises ValueError if the problem has none."""
        start, goal = self.read(problem.prompt, problem.answer)
        path = self._random_path(start, goal, rng, dead_ends=set())
        if path is None:
            raise ValueError(f"problem {problem.problem_id} has no solution")
        return f" {self.boundary_token} ".join(str(step) for step in path)

    def _random_path(
        self, state: State, goal: State, rng: np.random.Generator, dead_ends: set[State]
    ) -> list[Step] | None:
        """Search depth-first in random order for a path to the goal; states in `dead_ends` are not entered again."""
        if state == goal:
            return []
        steps = self.steps(state)
        for index in rng.permutation(len(steps)):
            for successor in self.successors(state, steps[index]):
                if successor in dead_ends:
                    continue
                rest = self._random_path(successor, goal, rng, dead_ends)
                if rest is not None:
                    return [steps[index], *rest]
        dead_ends.add(state)
        return None

    def judge(self, prompt: str, answer: str, response: str, *, finished: bool) -> Judgement:
        """Return RIGHT only if every step is correct and the goal state is reached (rule `step_replay`).

        Other rules name the failed check: `malformed_step`, `arithmetic`, `operands` (not available, or in a forbidden
        order), `everything_used`, `no_step`, `length_limit`, and `problem` (prompt and answer disagree). A response cut
        off at the token limit is TRUNCATED unless it already contains a complete solution.
        """
        try:
            start, goal = self.read(prompt, answer)
        except ValueError:
            return Judgement(Verdict.GOLD_UNPARSEABLE, None, "problem")
        steps = [parse_step(text) for text in response.split(self.boundary_token)]
        written = [step for step in steps if step is not None]
        extracted = str(written[-1].result) if written else None
        flaw = self._first_flaw(steps, start, goal) if written else "no_step"
        if flaw is None:
            return Judgement(Verdict.RIGHT, extracted, "step_replay")
        if not finished:
            return Judgement(Verdict.TRUNCATED, extracted, "length_limit")
        return Judgement(Verdict.WRONG if written else Verdict.NO_ANSWER, extracted, flaw)

    def can_end_right(self, prompt: str, answer: str, beginning: str) -> bool:
        """Return whether a correct response can begin with the steps up to the last boundary.

        They must be correct, and a solution with at least one more step must exist. Text after the last boundary is
        ignored. Raises ValueError as `read`.
        """
        start, goal = self.read(prompt, answer)
        steps = [parse_step(text) for text in beginning.split(self.boundary_token)[:-1]]
        flaw, states = self._replay(steps, start)
        rng = np.random.default_rng(0)  # order of the search, on which the result does not depend
        return flaw is None and any(self._random_path(state, goal, rng, set()) for state in states)

    def _first_flaw(self, steps: list[Step | None], start: State, goal: State) -> str | None:
        """Return the rule that the first incorrect step breaks, None for a complete solution."""
        flaw, states = self._replay(steps, start)
        return flaw if flaw or goal in states else "everything_used"

    def _replay(self, steps: list[Step | None], start: State) -> tuple[str | None, set[State]]:
        """Return the rule that the first incorrect step breaks, or None, and the states after the correct steps."""
        states = {start}
        for step in steps:
            if step is None:
                return "malformed_step", states
            if step.result != calculate(step.left, step.operator, step.right):
                return "arithmetic", states
            after = {successor for state in states for successor in self.successors(state, step)}
            if not after:
                return "operands", states
            states = after
        return None, states
