"""Arithmetic for language models: an expression of whole numbers, solved step by step or answered directly.

Stepwise, the problem is `8 + 2 - 9 :` and a correct response is `8 + 2 = 10 ; 10 - 9 = 1`. A step replaces two adjacent
numbers of the expression where the usual precedence allows it, and the verifier replays every step. Direct, the problem
is `8 + 2 - 9 =`, and the last number of the response is the answer. Source: our decision (O); for a pretrained model of
135 million weights, the levels range from easy to unsolved.
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
"""The numbers and operators of an expression, alternating."""


class Shape(NamedTuple):
    """The shape of a level's expressions: the largest value of each operand, and the operators to choose from."""

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
    """Stepwise arithmetic. `FoldTask` replays the steps."""

    name = "arithmetic"
    levels = tuple(SHAPES)
    vocabulary = (*(str(n) for n in range(LARGEST_WORD + 1)), "+", "-", "*", "=", ";", ":")
    mark = ":"
    """The last word of the problem."""

    def sample(self, level: str, rng: np.random.Generator) -> Problem:
        """Return a random problem of which no intermediate value is negative, solved as by `left_to_right`."""
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
        """Return the solution by `left_to_right`. A single form is easier to learn than random orders."""
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
    """The same problems without steps: the last number of the response is judged."""

    mark = "="

    def demonstration(self, problem: Problem, rng: np.random.Generator) -> str:
        return problem.answer

    def judge(self, prompt: str, answer: str, response: str, *, finished: bool) -> Judgement:
        """Return RIGHT if the last number equals the answer (rule `last_number`). A cut-off response has none."""
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
        correct = Decimal(extracted) == Decimal(answer)
        return Judgement(Verdict.RIGHT if correct else Verdict.WRONG, extracted, "last_number")

    def can_end_right(self, prompt: str, answer: str, beginning: str) -> bool:
        """Return True: the answer can follow any beginning. Raises ValueError as `read`."""
        self.read(prompt, answer)
        return True


def expression(problem: str) -> State:
    """Return the expression in a problem's text. Raises ValueError if the text is not one."""
    state = tuple(problem.strip().removesuffix(":").removesuffix("=").split())
    odd_places = all(text in ("+", "-", "*") for text in state[1::2])
    if len(state) % 2 == 0 or not odd_places or not all(re.fullmatch(r"[0-9]{1,4}", text) for text in state[::2]):
        raise ValueError(f"{problem!r} is not an expression")
    return state


def canonical(state: State) -> str:
    """Return a key that ignores the order of terms and of a product's factors."""
    terms: list[list[str]] = [["+", state[0]]]
    for operator, number in zip(state[1::2], state[2::2], strict=True):
        if operator == "*":
            terms[-1].append(number)
        else:
            terms.append([operator, number])
    return "".join(sorted(sign + "*".join(sorted(factors)) for sign, *factors in terms))


def left_to_right(state: State) -> list[Step] | None:
    """Return the steps, products first, then from left to right; None if an intermediate value is negative."""
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
    """Return the step that folds the number at `place` and the next one; None if its value is negative."""
    left, operator, right = int(state[place]), state[place + 1], int(state[place + 2])
    result = calculate(left, operator, right)
    return None if result is None else Step(left, operator, right, result)


def _may_fold(state: State, place: int) -> bool:
    """Return whether folding at `place` keeps the expression's value.

    A product always does. A sum or a difference does unless a minus is before it or a product takes one of its numbers.
    """
    if state[place + 1] == "*":
        return True
    before = state[place - 1] if place else "+"
    behind = state[place + 3] if place + 3 < len(state) else "+"
    return before == "+" and behind != "*"


def make(config: TaskConfig) -> Arithmetic:
    """Return the stepwise or direct task, by `task.answers`."""
    return Arithmetic() if config.answers == "stepwise" else DirectArithmetic()
