"""Signed sum: compute sum(P) - sum(M), folding in any order.

The prompt `4 12 6 - 10 :` means P = (4, 12, 6), M = (10). A step within a list is `a + b = c`; a step across the lists
is `a - b = c` with a from P, b from M and a >= b, and c joins P. A problem of n numbers takes n - 1 steps in many
correct orders. None reaches a dead end, because sum(P) >= sum(M) after every step. So correct responses are diverse,
failures are single incorrect steps, and the prefix of a failed response is useful. Source: our decision (O).
"""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING, NamedTuple

from extra_rl.tasks.base import Problem
from extra_rl.tasks.fold import NUMBER_WORDS, FoldTask, Step, without

if TYPE_CHECKING:
    import numpy as np

    from extra_rl.config.sections import TaskConfig

State = tuple[tuple[int, ...], tuple[int, ...]]  # P and M, each sorted

LARGEST_GIVEN = 12


class Shape(NamedTuple):
    """The shape of a level's problems: numbers in P and M, all within 1..12 except one of P within 1..widest."""

    plus: int
    minus: int
    widest: int = LARGEST_GIVEN


# The numbers 1 to 12 give only 78 pairs, too few for three disjoint sets; one wider number gives 366. With both wider
# (1 to 40, 820 pairs) the first level was no longer easy: its sums occur at no other level, and the accuracy after a
# warm start was 40 %.
SHAPES = {
    "L1": Shape(2, 0, widest=36),
    "L2": Shape(2, 1),
    "L3": Shape(3, 1),
    "L4": Shape(4, 2),
    "L5": Shape(5, 2),
    "L6": Shape(6, 3),
}


class SignedSum(FoldTask[State]):
    """The task. `FoldTask` replays the steps."""

    name = "signed_sum"
    levels = tuple(SHAPES)
    vocabulary = (*NUMBER_WORDS, "+", "-", "=", ";", ":")

    def sample(self, level: str, rng: np.random.Generator) -> Problem:
        shape = SHAPES[level]
        largest = [shape.widest] + [LARGEST_GIVEN] * (shape.plus + shape.minus - 1)
        while True:
            numbers = rng.integers(1, largest, endpoint=True)
            plus, minus = rng.permutation(numbers[: shape.plus]).tolist(), numbers[shape.plus :].tolist()
            if sum(plus) >= sum(minus):
                break
        return Problem(
            problem_id=f"{self.name}/{level}/{expression(plus, minus)}",
            canonical=expression(sorted(plus), sorted(minus)),
            level=level,
            prompt=" ".join([*map(str, plus), *(["-", *map(str, minus)] if minus else []), ":"]),
            answer=str(sum(plus) - sum(minus)),
        )

    def read(self, prompt: str, answer: str) -> tuple[State, State]:
        plus_text, _, minus_text = prompt.removesuffix(":").partition("-")
        plus = tuple(sorted(int(word) for word in plus_text.split()))
        minus = tuple(sorted(int(word) for word in minus_text.split()))
        if int(answer) != sum(plus) - sum(minus):
            raise ValueError(f"the answer to {prompt!r} is not {answer!r}")
        return (plus, minus), ((int(answer),), ())

    def steps(self, state: State) -> list[Step]:
        plus, minus = state
        additions = [Step(a, "+", b, a + b) for side in state for a, b in permutations(side, 2)]
        return additions + [Step(a, "-", b, a - b) for a in plus for b in minus if a >= b]

    def successors(self, state: State, step: Step) -> list[State]:
        plus, minus = state
        if step.operator == "+":
            in_plus, in_minus = (without(side, step.left, step.right) for side in state)
            after_plus = [(joined(in_plus, step.result), minus)] if in_plus is not None else []
            after_minus = [(plus, joined(in_minus, step.result))] if in_minus is not None else []
            return after_plus + after_minus
        if step.operator == "-":
            rest_plus, rest_minus = without(plus, step.left), without(minus, step.right)
            if rest_plus is not None and rest_minus is not None:
                return [(joined(rest_plus, step.result), rest_minus)]
        return []


def joined(numbers: tuple[int, ...], number: int) -> tuple[int, ...]:
    """Return the numbers with one more, sorted."""
    return tuple(sorted((*numbers, number)))


def expression(plus: list[int], minus: list[int]) -> str:
    """Return the problem as an expression, for example `4+12+6-10`."""
    return "+".join(map(str, plus)) + "".join(f"-{number}" for number in minus)


TASK = SignedSum()


def make(config: TaskConfig) -> SignedSum:
    """Return the task, which has no settings."""
    return TASK
