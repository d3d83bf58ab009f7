"""The signed sum: a response for every rule of the verifier, and the shape of problems."""

import numpy as np
import pytest

from extra_rl.tasks.base import generate
from extra_rl.tasks.signed_sum import SHAPES, TASK
from extra_rl.verdict import Verdict

PROMPT, ANSWER = "4 12 6 - 10 :", "12"


@pytest.mark.parametrize(
    ("response", "verdict", "rule"),
    [
        ("4 + 12 = 16 ; 16 + 6 = 22 ; 22 - 10 = 12", Verdict.RIGHT, "step_replay"),
        ("12 - 10 = 2 ; 6 + 4 = 10 ; 10 + 2 = 12", Verdict.RIGHT, "step_replay"),
        # The last number is correct in the next ones, but the steps are not.
        ("4 + 12 = 16 ; 16 + 6 = 23 ; 22 - 10 = 12", Verdict.WRONG, "arithmetic"),
        ("4 + 12 = 16 ; 16 - 4 = 12", Verdict.WRONG, "operands"),
        ("12 + 0 = 12", Verdict.WRONG, "operands"),
        ("4 + 6 = 10 ; 12 + 10 = 22 ; 22 - 10 = 12 ; 12 + 4 = 16", Verdict.WRONG, "operands"),
        ("12 - 10 = 2 ; 6 + 4 = 10", Verdict.WRONG, "everything_used"),
        ("10 - 4 = 6 ; 12 + 6 = 18 ; 18 - 6 = 12", Verdict.WRONG, "operands"),  # 10 is to be subtracted
        ("12 + 10 = 22 ; 4 + 6 = 10 ; 22 - 10 = 12", Verdict.WRONG, "operands"),  # and not to be added
        ("4 - 10 = 6 ; 12 + 6 = 18 ; 18 - 6 = 12", Verdict.WRONG, "arithmetic"),
        ("4 + 12 = 16 ; 16 + 6 = 22 ; 22 - 10 = 12 ;", Verdict.WRONG, "malformed_step"),
        ("4 + 12 = 16 ; 16 + 6 = 22 ; - 10 = 12", Verdict.WRONG, "malformed_step"),
        ("4 * 12 = 48", Verdict.WRONG, "operands"),
        ("12", Verdict.NO_ANSWER, "no_step"),
        ("", Verdict.NO_ANSWER, "no_step"),
        ("٤ + 12 = 16", Verdict.NO_ANSWER, "no_step"),
    ],
)
def test_each_rule_decides(response: str, verdict: Verdict, rule: str) -> None:
    judgement = TASK.judge(PROMPT, ANSWER, response, finished=True)
    assert (judgement.verdict, judgement.rule) == (verdict, rule)


def test_the_last_written_result_is_extracted() -> None:
    assert TASK.judge(PROMPT, ANSWER, "4 + 12 = 16 ; 16 + 6 =", finished=True).extracted == "16"
    assert TASK.judge(PROMPT, ANSWER, "twelve", finished=True).extracted is None


def test_a_cut_off_response_is_correct_only_if_complete() -> None:
    cut = TASK.judge(PROMPT, ANSWER, "4 + 12 = 16 ; 16 + 6 =", finished=False)
    assert (cut.verdict, cut.rule, cut.extracted) == (Verdict.TRUNCATED, "length_limit", "16")
    assert TASK.judge(PROMPT, ANSWER, "", finished=False).verdict is Verdict.TRUNCATED
    whole = TASK.judge(PROMPT, ANSWER, "4 + 12 = 16 ; 16 + 6 = 22 ; 22 - 10 = 12", finished=False)
    assert whole.verdict is Verdict.RIGHT


def test_a_number_in_both_lists_may_be_read_either_way() -> None:
    # P = (9, 3, 4), M = (3, 4). `3 + 4 = 7` may fold either list: the first response needs P, the second M.
    for response in (
        "3 + 4 = 7 ; 9 + 7 = 16 ; 16 - 3 = 13 ; 13 - 4 = 9",
        "3 + 4 = 7 ; 9 - 7 = 2 ; 2 + 3 = 5 ; 5 + 4 = 9",
    ):
        assert TASK.judge("9 3 4 - 3 4 :", "9", response, finished=True).verdict is Verdict.RIGHT
    mixed = "3 + 4 = 7 ; 9 - 7 = 2 ; 2 + 3 = 5 ; 5 - 4 = 1"
    assert TASK.judge("9 3 4 - 3 4 :", "9", mixed, finished=True).verdict is Verdict.WRONG


@pytest.mark.parametrize(("prompt", "answer"), [(PROMPT, "13"), (PROMPT, "twelve"), ("4 x :", "4")])
def test_a_faulty_problem_is_not_judged_incorrect(prompt: str, answer: str) -> None:
    judgement = TASK.judge(prompt, answer, "4 + 12 = 16", finished=True)
    assert (judgement.verdict, judgement.rule) == (Verdict.GOLD_UNPARSEABLE, "problem")


@pytest.mark.parametrize(
    ("beginning", "can"),
    [
        ("", True),
        ("4 + 12", True),  # no whole step yet
        ("4 + 12 = 16 ;", True),
        ("4 + 12 = 17 ;", False),
        ("4 + 12 = 17", True),  # text after the last boundary is ignored
        ("4 + 12 = 16 ; 16 - 10 = 6 ; 6 +", True),
        ("4 + 12 = 16 ; 16 + 4 = 20 ; 20", False),  # 4 is used up
        ("12 + 10 = 22 ;", False),
        ("4 + ; 12", False),
        ("4 + 12 = 16 ; 16 + 6 = 22 ; 22 - 10 = 12 ;", False),  # all is used, no step can follow
    ],
)
def test_beginnings_of_correct_responses(beginning: str, can: bool) -> None:
    assert TASK.can_end_right(PROMPT, ANSWER, beginning) is can


def test_very_long_text_is_judged() -> None:
    for response in ("4 + 12 = 16 ; " * 100_000, "4 + 12 = " + "1" * 1_000_000):
        assert TASK.judge(PROMPT, ANSWER, response, finished=True).verdict is not Verdict.RIGHT


@pytest.mark.parametrize("level", TASK.levels)
def test_problems_have_the_shape_of_their_level(level: str) -> None:
    shape = SHAPES[level]
    for problem in generate(TASK, level, 50, np.random.default_rng(0)):
        plus, _, minus = problem.prompt.removesuffix(" :").partition(" - ")
        plus_numbers, minus_numbers = [int(w) for w in plus.split()], [int(w) for w in minus.split()]
        assert (len(plus_numbers), len(minus_numbers)) == (shape.plus, shape.minus)
        assert int(problem.answer) == sum(plus_numbers) - sum(minus_numbers) >= 0
        assert sum(plus_numbers) <= 99  # every intermediate result is in the vocabulary
        assert max(plus_numbers) <= shape.widest
        assert sorted(plus_numbers + minus_numbers)[-2] <= 12
        assert problem.problem_id.startswith(f"signed_sum/{level}/")


def test_ids_contain_the_problem_and_keys_ignore_its_order() -> None:
    problem = generate(TASK, "L3", 1, np.random.default_rng(1))[0]
    plus, _, minus = problem.prompt.removesuffix(" :").partition(" - ")
    assert problem.problem_id == f"signed_sum/L3/{plus.replace(' ', '+')}-{minus}"
    in_order = "+".join(sorted(plus.split(), key=int))
    assert problem.canonical == f"{in_order}-{minus}"
