"""Votes: which answers are one answer."""

from __future__ import annotations

import pytest

from extra_rl.evaluation.votes import MAX_CHARS, answer_key, votes_of


@pytest.mark.parametrize(
    ("one", "other"),
    [("0.5", r"\frac{1}{2}"), ("1/2", r"\dfrac12"), ("1,000", "1000"), ("x+1", "x + 1"), ("$7$", "7.0")],
)
def test_spellings_of_one_answer_are_one(one: str, other: str) -> None:
    assert answer_key(one) == answer_key(other)


@pytest.mark.parametrize(("one", "other"), [("1", "-1"), ("x", "y"), ("12", "1 2"), ("(1,2)", "(2,1)")])
def test_different_answers_stay_apart(one: str, other: str) -> None:
    assert answer_key(one) != answer_key(other)


def test_a_long_text_is_taken_as_it_stands() -> None:
    assert answer_key("x + y") == "x+y"
    hostile = "x + " * MAX_CHARS
    assert answer_key(hostile) == hostile


def test_right_is_one_answer_and_silence_none() -> None:
    right = [True, False, False, True, False, False]
    answers = ["4/8", "3", None, "0.5", "3.0", "7"]
    assert votes_of(right, answers, {}).tolist() == [0, 1, -1, 0, 1, 2]
