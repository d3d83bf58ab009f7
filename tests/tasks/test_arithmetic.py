"""Arithmetic for language models: which steps hold, how problems are read, and direct answers."""

import numpy as np
import pytest

from extra_rl.config.sections import TaskConfig
from extra_rl.tasks.arithmetic import canonical, expression, left_to_right
from extra_rl.tasks.base import load_task
from extra_rl.verdict import Verdict

STEPWISE, DIRECT = (load_task(TaskConfig(name="arithmetic", answers=answers)) for answers in ("stepwise", "direct"))


@pytest.mark.parametrize(
    ("problem", "answer", "response", "rule"),
    [
        ("8 + 2 - 9 :", "1", "8 + 2 = 10 ; 10 - 9 = 1", "step_replay"),
        ("8 + 2 - 9 :", "1", " 8 + 2 = 10 ;  10 - 9 = 1 ", "step_replay"),
        ("8 + 9 - 2 :", "15", "9 - 2 = 7 ; 8 + 7 = 15", "step_replay"),  # a plus stands before 9
        ("9 - 2 + 3 :", "10", "2 + 3 = 5 ; 9 - 5 = 4", "operands"),  # a minus stands before 2
        ("9 - 4 - 2 :", "3", "4 - 2 = 2 ; 9 - 2 = 7", "operands"),
        ("2 + 3 * 4 :", "14", "2 + 3 = 5 ; 5 * 4 = 20", "operands"),  # the product takes the 3
        ("2 + 3 * 4 :", "14", "3 * 4 = 12 ; 2 + 12 = 14", "step_replay"),
        ("3 * 4 - 2 :", "10", "3 * 4 = 12 ; 12 - 2 = 10", "step_replay"),
        ("3 * 4 - 2 :", "10", "4 - 2 = 2 ; 3 * 2 = 6", "operands"),
        ("5 + 5 + 5 :", "15", "5 + 5 = 10 ; 5 + 10 = 15", "step_replay"),  # the second and the third
        ("8 + 2 - 9 :", "1", "2 + 8 = 10 ; 10 - 9 = 1", "operands"),  # not as the expression has them
        ("8 + 2 - 9 :", "1", "8 + 2 = 11 ; 11 - 9 = 2", "arithmetic"),
        ("8 + 2 - 9 :", "1", "8 + 2 = 10", "everything_used"),
        ("8 + 2 - 9 :", "1", "8 + 2 = 10 ; 10 - 9 = 1 ; 1 + 0 = 1", "operands"),
        ("8 + 2 - 9 :", "1", "8 + 2 - 9 = 1", "no_step"),
        ("8 + 2 - 9 :", "1", "1", "no_step"),
        ("8 + 2 - 9 :", "2", "8 + 2 = 10 ; 10 - 9 = 1", "problem"),  # the gold is not its value
        ("8 ** 2 :", "64", "8 ** 2 = 64", "problem"),
        ("8 + 2 - :", "10", "8 + 2 = 10", "problem"),
    ],
)
def test_steps_are_replayed(problem: str, answer: str, response: str, rule: str) -> None:
    judgement = STEPWISE.judge(problem, answer, response, finished=True)
    assert judgement.rule == rule
    assert (judgement.verdict is Verdict.RIGHT) == (rule == "step_replay")


def test_a_cut_off_solution_is_truncated_and_a_whole_one_is_not() -> None:
    assert STEPWISE.judge("1 + 2 - 3 :", "0", "1 + 2 = 3 ; 3 -", finished=False).verdict is Verdict.TRUNCATED
    assert STEPWISE.judge("1 + 2 - 3 :", "0", "1 + 2 = 3 ; 3 - 3 = 0", finished=False).verdict is Verdict.RIGHT


@pytest.mark.parametrize(
    ("response", "finished", "verdict"),
    [
        ("1", True, Verdict.RIGHT),
        ("The answer is 1.", True, Verdict.RIGHT),
        ("8 + 2 = 10, 10 - 9 = 1", True, Verdict.RIGHT),
        ("10 - 9", True, Verdict.WRONG),
        ("001", True, Verdict.RIGHT),
        ("-1", True, Verdict.WRONG),
        ("1.0", True, Verdict.RIGHT),
        ("7.1", True, Verdict.WRONG),
        ("one", True, Verdict.NO_ANSWER),
        ("1" * 5000, True, Verdict.NO_ANSWER),  # no number of a size that this task has
        ("1", False, Verdict.TRUNCATED),
    ],
)
def test_the_last_number_is_a_direct_answer(response: str, finished: bool, verdict: Verdict) -> None:
    assert DIRECT.judge("8 + 2 - 9 =", "1", response, finished=finished).verdict is verdict


def test_levels_have_the_shape_they_name_and_no_negative_value() -> None:
    rng = np.random.default_rng(0)
    terms = {"L1": 2, "L2": 2, "L3": 2, "L4": 3, "L5": 3, "L6": 3, "L7": 5}
    for level, count in terms.items():
        for _ in range(50):
            problem = STEPWISE.sample(level, rng)
            state = expression(problem.prompt)
            assert len(state[::2]) == count
            assert ("*" in state) == (level in ("L2", "L5"))
            path = left_to_right(state)
            assert path is not None
            assert min(step.result for step in path) >= 0
            assert str(eval("".join(state))) == problem.answer  # noqa: S307  of our own making
            assert DIRECT.read(problem.prompt.replace(":", "="), problem.answer)[0] == state


def test_both_forms_have_the_same_problems() -> None:
    one, other = (task.sample("L7", np.random.default_rng(3)) for task in (STEPWISE, DIRECT))
    assert one.problem_id == other.problem_id
    assert (one.prompt[-1], other.prompt[-1]) == (":", "=")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("1 + 2", "2 + 1", True),
        ("1 + 2 - 3", "2 - 3 + 1", True),
        ("2 - 1", "1 - 2", False),
        ("2 * 3 + 4", "4 + 3 * 2", True),
        ("2 * 3 + 4", "2 * 4 + 3", False),
    ],
)
def test_the_order_of_terms_makes_no_other_problem(one: str, other: str, same: bool) -> None:
    assert (canonical(expression(one)) == canonical(expression(other))) == same
