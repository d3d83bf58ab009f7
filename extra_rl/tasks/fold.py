"""Tasks that fold numbers two at a time: `a op b = c`, steps joined by ` ; `.

The rules of a task (`steps`, `successors`) serve its demonstrations and its verifier alike. The verifier
replays every step, so a lucky final number does not count. Source: our decision (O); the prototype's task
had this form.
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

# ASCII digits, four at most: int() must meet neither digits of other scripts nor a million of them.
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
    """The value of `left operator right`; None where it is negative or a division leaves a remainder."""
    if operator == "+":
        return left + right
    if operator == "*":
        return left * right
    if operator == "-":
        return left - right if left >= right else None
    return left // right if right and left % right == 0 else None


def parse_step(text: str) -> Step | None:
    """The step that a text between two boundaries states; None where it is anything else."""
    match = STEP_PATTERN.fullmatch(" ".join(text.split()))
    if match is None:
        return None
    return Step(int(match[1]), match[2], int(match[3]), int(match[4]))


def without(numbers: tuple[int, ...], *used: int) -> tuple[int, ...] | None:
    """The numbers less one occurrence of each used one; None where one is missing."""
    rest = list(numbers)
    for number in used:
        if number not in rest:
            return None
        rest.remove(number)
    return tuple(rest)


class FoldTask(ABC, Generic[State]):
    """Shared half of the folding tasks: replaying verifier and random solutions.

    A subclass says what a state is, how it is read from a prompt, and which steps lead where.
    """

    name: str
    levels: tuple[str, ...]
    vocabulary: tuple[str, ...]
    boundary_token: str = ";"

    @abstractmethod
    def sample(self, level: str, rng: np.random.Generator) -> Problem:
        """One random problem of the level."""

    @abstractmethod
    def read(self, prompt: str, answer: str) -> tuple[State, State]:
        """Start state and goal state. Raises ValueError where prompt and answer are not one problem."""

    @abstractmethod
    def steps(self, state: State) -> list[Step]:
        """The steps that may be written in this state, one for each ordered pair of numbers that folds."""

    @abstractmethod
    def successors(self, state: State, step: Step) -> list[State]:
        """The states that a step of right arithmetic can lead to; empty where its operands are not available.

        More than one where the text does not tell which of two equal numbers is meant.
        """

    def demonstration(self, problem: Problem, rng: np.random.Generator) -> str:
        """A random solution. Raises ValueError where the problem has none."""
        start, goal = self.read(problem.prompt, problem.answer)
        path = self._random_path(start, goal, rng, dead_ends=set())
        if path is None:
            raise ValueError(f"problem {problem.problem_id} has no solution")
        return f" {self.boundary_token} ".join(str(step) for step in path)

    def _random_path(
        self, state: State, goal: State, rng: np.random.Generator, dead_ends: set[State]
    ) -> list[Step] | None:
        """Depth-first search in random order that enters no dead end twice."""
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
        """RIGHT only if every step holds, every number is used and nothing is left over (rule `step_replay`).

        Other rules name the check that failed: `malformed_step`, `arithmetic`, `operands` (not available,
        or in a forbidden order), `everything_used`; `no_step`; `length_limit`; `problem` (prompt and answer
        disagree). A response cut off at the token limit is TRUNCATED unless what it holds is already a
        whole solution.
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
        """Whether a right response may still begin like this: nothing is wrong in the steps up to the last boundary,
        and a solution with at least one more is left. What comes behind that boundary is not looked at.

        Raises ValueError where prompt and answer are not one problem.
        """
        start, goal = self.read(prompt, answer)
        steps = [parse_step(text) for text in beginning.split(self.boundary_token)[:-1]]
        flaw, states = self._replay(steps, start)
        rng = np.random.default_rng(0)  # the order of the search; whether there is a solution does not depend on it
        return flaw is None and any(self._random_path(state, goal, rng, set()) for state in states)

    def _first_flaw(self, steps: list[Step | None], start: State, goal: State) -> str | None:
        """The rule that the first wrong step breaks; None for a whole solution."""
        flaw, states = self._replay(steps, start)
        return flaw if flaw or goal in states else "everything_used"

    def _replay(self, steps: list[Step | None], start: State) -> tuple[str | None, set[State]]:
        """The rule that the first wrong step breaks, if any does, and the states that the right ones can lead to."""
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
