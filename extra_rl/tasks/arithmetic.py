"""Arithmetic for language models: an expression of whole numbers, worked out step by step or answered at once.

Stepwise, the problem is `8 + 2 - 9 :` and a right response `8 + 2 = 10 ; 10 - 9 = 1`. A step replaces two neighbouring
numbers of the expression, where the usual rules of precedence allow it; the verifier replays every step. Direct, the
problem is `8 + 2 - 9 =`, and the last number of the response is its answer. Source: our decision (O); the levels are
graded by what a pretrained model of 135 million weights finds easy, hard and out of reach.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from extra_rl.tasks.base import Problem
from extra_rl.tasks.fold import FoldTask, Step, calculate
from extra_rl.verdict import Judgement, Verdict

if TYPE_CHECKING:
    import numpy as np

    from extra_rl.config.sections import TaskConfig

State = tuple[str, ...]
"""An expression's numbers and operators in turns."""


class Shape(NamedTuple):
    """What a level's expressions look like: the largest number of each operand, and the operators to choose from."""

    largest: tuple[int, ...]
    operators: str


SHAPES = {
    "L1": Shape((20, 20), "+-"),
    "L2": Shape((9, 19), "*"),
    "L3": Shape((99, 99), "+-"),
    "L4": Shape((9, 9, 9), "+-"),
    "L5": Shape((9, 9, 20), "*"),  # a product, then a sum or a difference
    "L6": Shape((50, 50, 50), "+-"),
    "L7": Shape((50, 50, 50, 50, 50), "+-"),
}
LARGEST_WORD = 999
NUMBER = re.compile(r"(?<![0-9.])-?[0-9]{1,6}(?:\.[0-9]{1,6})?(?![0-9])")


class Arithmetic(FoldTask[State]):
    """Stepwise arithmetic; what is shared with the other folding tasks is replaying and its rules."""

    name = "arithmetic"
    levels = tuple(SHAPES)
    vocabulary = (*(str(n) for n in range(LARGEST_WORD + 1)), "+", "-", "*", "=", ";", ":")
    mark = ":"
    """What the problem ends with."""

    def sample(self, level: str, rng: np.random.Generator) -> Problem:
        """One random problem whose value is never negative, worked out from left to right."""
        shape = SHAPES[level]
        least = 2 if "*" in shape.operators else 1
        while True:
            numbers = [str(n) for n in rng.integers(least, shape.largest, endpoint=True)]
            operators = [shape.operators[i] for i in rng.integers(0, len(shape.operators), len(numbers) - 1)]
            if shape.operators == "*" and len(operators) > 1:
                operators[1] = "+-"[rng.integers(0, 2)]
            state = tuple(text for pair in zip(numbers, [*operators, ""], strict=True) for text in pair)[:-1]
            path = left_to_right(state)
            if path is not None:
                break
        return Problem(
            problem_id=f"{self.name}/{level}/{''.join(state)}",
            canonical=canonical(state),
            level=level,
            prompt=f"{' '.join(state)} {self.mark}",
            answer=str(path[-1].result),
        )

    def demonstration(self, problem: Problem, rng: np.random.Generator) -> str:
        """The solution that takes products first and then goes from left to right: one form is learned soonest."""
        path = left_to_right(expression(problem.prompt))
        if path is None:
            raise ValueError(f"problem {problem.problem_id} has no solution")
        return f" {self.boundary_token} ".join(str(step) for step in path)

    def read(self, prompt: str, answer: str) -> tuple[State, State]:
        state = expression(prompt)
        path = left_to_right(state)
        if path is None or str(path[-1].result) != answer:
            raise ValueError(f"the answer to {prompt!r} is not {answer!r}")
        return state, (answer,)

    def steps(self, state: State) -> list[Step]:
        found = (_step(state, i) for i in range(0, len(state) - 2, 2) if _may_fold(state, i))
        return [step for step in found if step is not None]

    def successors(self, state: State, step: Step) -> list[State]:
        written = (str(step.left), step.operator, str(step.right))
        places = [i for i in range(0, len(state) - 2, 2) if state[i : i + 3] == written and _may_fold(state, i)]
        return list(dict.fromkeys((*state[:i], str(step.result), *state[i + 3 :]) for i in places))


class DirectArithmetic(Arithmetic):
    """The same problems, answered without steps: the last number of the response is judged."""

    mark = "="

    def demonstration(self, problem: Problem, rng: np.random.Generator) -> str:
        return problem.answer

    def judge(self, prompt: str, answer: str, response: str, *, finished: bool) -> Judgement:
        """RIGHT where the last number equals the answer (rule `last_number`); cut off, it has none."""
        try:
            self.read(prompt, answer)
        except ValueError:
            return Judgement(Verdict.GOLD_UNPARSEABLE, None, "problem")
        numbers = NUMBER.findall(response)
        extracted = str(Decimal(numbers[-1])) if numbers else None
        if not finished:
            return Judgement(Verdict.TRUNCATED, extracted, "length_limit")
        if extracted is None:
            return Judgement(Verdict.NO_ANSWER, None, "no_number")
        right = Decimal(extracted) == Decimal(answer)
        return Judgement(Verdict.RIGHT if right else Verdict.WRONG, extracted, "last_number")

    def can_end_right(self, prompt: str, answer: str, beginning: str) -> bool:
        """Always: an answer can still follow whatever stands before it. Raises ValueError as `read`."""
        self.read(prompt, answer)
        return True


def expression(problem: str) -> State:
    """The expression of a problem's text. Raises ValueError where it is none."""
    state = tuple(problem.strip().removesuffix(":").removesuffix("=").split())
    odd_places = all(text in ("+", "-", "*") for text in state[1::2])
    if len(state) % 2 == 0 or not odd_places or not all(re.fullmatch(r"[0-9]{1,4}", text) for text in state[::2]):
        raise ValueError(f"{problem!r} is no expression")
    return state


def canonical(state: State) -> str:
    """Equal for expressions that differ in the order of their terms, or of a product's factors, only."""
    terms: list[list[str]] = [["+", state[0]]]
    for operator, number in zip(state[1::2], state[2::2], strict=True):
        if operator == "*":
            terms[-1].append(number)
        else:
            terms.append([operator, number])
    return "".join(sorted(sign + "*".join(sorted(factors)) for sign, *factors in terms))


def left_to_right(state: State) -> list[Step] | None:
    """Products first, then from left to right; None where a value on the way is negative."""
    path = []
    while len(state) > 1:
        place = next((i for i in range(0, len(state) - 2, 2) if state[i + 1] == "*"), 0)
        step = _step(state, place)
        if step is None:
            return None
        path.append(step)
        state = (*state[:place], str(step.result), *state[place + 3 :])
    return path


def _step(state: State, place: int) -> Step | None:
    """The step that folds the numbers at `place` and behind it; None where its value is negative."""
    left, operator, right = int(state[place]), state[place + 1], int(state[place + 2])
    result = calculate(left, operator, right)
    return None if result is None else Step(left, operator, right, result)


def _may_fold(state: State, place: int) -> bool:
    """Whether folding there leaves the expression's value as it is: a product always; a sum or a difference unless a
    product takes one of its numbers, or a minus stands before it."""
    if state[place + 1] == "*":
        return True
    before = state[place - 1] if place else "+"
    behind = state[place + 3] if place + 3 < len(state) else "+"
    return before == "+" and behind != "*"


def make(config: TaskConfig) -> Arithmetic:
    """Stepwise or direct, as `task.answers` says."""
    return Arithmetic() if config.answers == "stepwise" else DirectArithmetic()
