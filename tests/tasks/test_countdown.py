"""Countdown: rules that differ from those of the signed sum, and dead ends."""

import numpy as np
import pytest

from extra_rl.tasks.base import Problem
from extra_rl.tasks.countdown import NUMBERS, TASK
from extra_rl.verdict import Verdict

PROMPT, ANSWER = "3 7 12 = 48 :", "48"


@pytest.mark.parametrize(
    ("response", "verdict", "rule"),
    [
        ("7 - 3 = 4 ; 4 * 12 = 48", Verdict.RIGHT, "step_replay"),
        ("12 / 3 = 4 ; 7 * 4 = 28", Verdict.WRONG, "everything_used"),  # a dead end: all used, target missed
        ("12 * 4 = 48", Verdict.WRONG, "operands"),
        ("7 - 3 = 4", Verdict.WRONG, "everything_used"),
        ("7 / 3 = 2 ; 2 * 12 = 24", Verdict.WRONG, "arithmetic"),  # divisions are exact
        ("7 / 0 = 7", Verdict.WRONG, "arithmetic"),
        ("3 - 7 = 4 ; 4 * 12 = 48", Verdict.WRONG, "arithmetic"),
    ],
)
def test_each_rule_decides(response: str, verdict: Verdict, rule: str) -> None:
    judgement = TASK.judge(PROMPT, ANSWER, response, finished=True)
    assert (judgement.verdict, judgement.rule) == (verdict, rule)


@pytest.mark.parametrize(
    ("prompt", "answer", "response"),
    [
        ("10 12 3 = 40 :", "40", "10 * 12 = 120 ; 120 / 3 = 40"),  # 120 is not in the vocabulary
        ("5 5 7 = 7 :", "7", "5 - 5 = 0 ; 0 + 7 = 7"),
    ],
)
def test_results_stay_within_1_and_99(prompt: str, answer: str, response: str) -> None:
    assert TASK.judge(prompt, answer, response, finished=True).rule == "operands"


def test_a_target_that_is_not_the_answer_is_a_faulty_problem() -> None:
    assert TASK.judge(PROMPT, "47", "7 - 3 = 4", finished=True).verdict is Verdict.GOLD_UNPARSEABLE


def test_demonstrations_find_a_way_out_of_dead_ends() -> None:
    problem = Problem("countdown/L2/3,7,12=48", "3,7,12=48", "L2", PROMPT, ANSWER)
    found = {TASK.demonstration(problem, np.random.default_rng(seed)) for seed in range(60)}
    # (7 - 3) * 12 is the one solution; the product may be written in two orders.
    assert found == {"7 - 3 = 4 ; 4 * 12 = 48", "7 - 3 = 4 ; 12 * 4 = 48"}


def test_a_problem_without_solution_is_named() -> None:
    problem = Problem("countdown/L1/2,3=99", "2,3=99", "L1", "2 3 = 99 :", "99")
    with pytest.raises(ValueError, match="2,3=99"):
        TASK.demonstration(problem, np.random.default_rng(0))


@pytest.mark.parametrize("level", TASK.levels)
def test_levels_differ_in_the_number_of_numbers(level: str) -> None:
    problem = TASK.sample(level, np.random.default_rng(0))
    numbers, _, target = problem.prompt.removesuffix(" :").partition(" = ")
    assert len(numbers.split()) == NUMBERS[level]
    assert target == problem.answer
    assert 1 <= int(target) <= 99


@pytest.mark.parametrize(
    ("beginning", "can"),
    [("7 - 3 = 4 ;", True), ("12 / 3 = 4 ;", False), ("3 + 7 = 10 ; 10", False)],  # flawless, but dead ends
)
def test_a_dead_end_cannot_end_correctly(beginning: str, can: bool) -> None:
    assert TASK.can_end_right(PROMPT, ANSWER, beginning) is can
