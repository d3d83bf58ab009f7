"""Whole judgements: verdicts, rules, policies, reference answers, and the development pairs."""

from __future__ import annotations

import math
import re

import polars as pl
import pytest

from mathjudge import Item, MathJudge, Policy, Verdict, judge, reference_problem
from mathjudge.extract import extract
from mathjudge.policy import FALLBACKS
from mathjudge.reference import reference_text

MAX_MISSED = 1


@pytest.mark.parametrize(
    ("gold", "response", "verdict", "rule"),
    [
        ("42", r"\boxed{42}", Verdict.RIGHT, "box/text"),
        ("0.5", r"\boxed{\frac12}", Verdict.RIGHT, "box/number"),
        ("42", r"\boxed{43}", Verdict.WRONG, "box/different"),
        ("42", r"\boxed{41} or \boxed{42}", Verdict.WRONG, "box/several_answers"),
        ("42", r"\boxed{41}, \boxed{42}", Verdict.WRONG, "box/several_answers"),
        ("6 and 8", r"\boxed{6} or \boxed{8}", Verdict.RIGHT, "box/list"),
        ("2, 1", r"\boxed{1} and \boxed{2}", Verdict.RIGHT, "box/list"),
        ("42", r"\boxed{10} and then \boxed{42}", Verdict.RIGHT, "box/text"),
        ("42", "hm", Verdict.WRONG, "bare/different"),
        ("42", "I do not know what it is.", Verdict.NO_ANSWER, "none"),
        ("42", r"\boxed{42", Verdict.TRUNCATED, "unclosed_box"),
        ("", r"\boxed{42}", Verdict.GOLD_UNPARSEABLE, "gold/empty"),
        (r"\frac{1}{", r"\boxed{42}", Verdict.GOLD_UNPARSEABLE, "gold/unbalanced"),
        (r"1 + \dots + n", r"\boxed{42}", Verdict.GOLD_UNPARSEABLE, "gold/unparsed"),
        (r"1 + \dots + n", r"\boxed{1 + \dots + n}", Verdict.RIGHT, "box/text"),
    ],
)
def test_judgement(gold: str, response: str, verdict: Verdict, rule: str) -> None:
    judgement = judge(gold, response)
    assert (judgement.verdict, judgement.rule) == (verdict, rule)


def test_truncated_without_a_box_is_truncated() -> None:
    assert judge("42", "The answer is 42.", truncated=True).verdict is Verdict.TRUNCATED
    assert judge("42", r"\boxed{42} and", truncated=True).verdict is Verdict.RIGHT


def test_a_list_is_spread_over_boxes_only_if_the_policy_says_so() -> None:
    response = r"\boxed{1}, \boxed{2}"
    assert judge("1, 2", response).verdict is Verdict.RIGHT
    assert judge("1, 2", response, Policy(join_boxes=False)).verdict is Verdict.WRONG


@pytest.mark.parametrize(
    ("gold", "answer", "relative", "absolute", "expected"),
    [
        ("3.00", "3.02", 0.01, 0.0, True),  # 0.02 of at most 0.03
        ("3.00", "3.03", 0.01, 0.0, True),  # the limit itself
        ("3.00", "3.0301", 0.01, 0.0, False),
        ("3.02", "3.00", 0.0, 0.0, False),
        ("-2.5", "-2.52", 0.01, 0.0, True),  # relative to the size of the reference: 0.02 of 0.025
        ("-2.5", "2.5", 0.01, 0.0, False),
        ("0", "0.001", 0.01, 0.0, False),  # a relative tolerance of 0 allows nothing
        ("0", "0.001", 0.0, 0.001, True),
        (r"3.83 \times 10^{35}", "3.8e35", 0.01, 0.0, True),
        (r"3.83 \times 10^{35}", "3.83 × 10^{34}", 0.01, 0.0, False),
        (r"3.83 \times 10^{35}", "3.83", 0.01, 0.0, False),
        (r"2\pi", "6.28", 0.01, 0.0, True),
        (r"12 \text{ cm}", "12.1", 0.01, 0.0, True),
        (r"12 \text{ cm}", r"12.1 \text{ m}", 0.01, 0.0, False),
        (r"50\%", "0.504", 0.01, 0.0, True),
        (r"\frac{\pi}{6}", r"30.1^\circ", 0.01, 0.0, True),
        ("(1.00, 2.00)", "(1.01, 1.99)", 0.01, 0.0, True),  # member by member
        ("(1.00, 2.00)", "(1.02, 2.00)", 0.01, 0.0, False),
        ("1.00, 2.00", "2.01, 1.01", 0.01, 0.0, True),
        ("x^2 + 1.00", "x^2 + 1.001", 0.01, 0.0, False),  # a formula is no number
        ("C", "D", 0.5, 5.0, False),
        ("2:1", "2.01", 0.01, 0.0, False),  # nor is a ratio
    ],
)
def test_the_tolerance_of_a_row(gold: str, answer: str, relative: float, absolute: float, expected: bool) -> None:
    item = Item(gold, rf"\boxed{{{answer}}}", relative_tolerance=relative, absolute_tolerance=absolute)
    assert (MathJudge()(item).verdict is Verdict.RIGHT) is expected


def test_the_larger_of_the_policys_and_the_rows_tolerance_counts() -> None:
    lenient = MathJudge(Policy(relative_tolerance=0.05))
    assert lenient(Item("3.00", r"\boxed{3.10}", relative_tolerance=0.01)).verdict is Verdict.RIGHT
    assert MathJudge()(Item("3.00", r"\boxed{3.10}", relative_tolerance=0.01)).verdict is Verdict.WRONG
    with pytest.raises(ValueError, match="relative_tolerance"):
        MathJudge()(Item("3", r"\boxed{4}", relative_tolerance=math.inf))


def test_unknown_fallbacks_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown fallbacks"):
        Policy(fallbacks=("guess",))


def test_the_answer_in_a_reference() -> None:
    assert reference_text(r"Thus $x = \boxed{20}$ percent.") == "20"
    assert reference_text(r"\boxed{1} papers and \boxed{2} bins") == "1, 2"
    assert reference_text(" 7 ") == "7"
    assert reference_problem(r"\frac{3}{4}") is None
    assert reference_problem(r"\text{east}") is None


def test_nesting_too_deep_is_wrong_and_not_an_error() -> None:
    assert judge("42", r"\boxed{" + "(" * 900 + "1" + ")" * 900 + "}").verdict is Verdict.WRONG
    assert judge("42", r"\boxed{" + "(C) " * 700 + "}").verdict is Verdict.WRONG


def test_no_text_reaches_eval(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every path from text to Python code in SymPy ends in `eval_expr`; judging must not reach it."""
    import sympy.parsing.sympy_parser

    def evaluated(*_: object) -> None:
        raise AssertionError("text was evaluated")

    monkeypatch.setattr(sympy.parsing.sympy_parser, "eval_expr", evaluated)
    for answer in ("2**(1/4)", "__import__('os').getcwd()", r"\text{exec}(1)", "lambda: 0", "9+8", r"\sqrt{x}+y"):
        assert judge("x+1", rf"\boxed{{{answer}}}").verdict is Verdict.WRONG
        judge(answer, r"\boxed{x+1}")
    assert judge("2x", r"\boxed{x+x}").verdict is Verdict.RIGHT


def test_development_pairs(pairs: pl.DataFrame) -> None:
    """All unflagged pairs but one, no incorrect answer accepted; pairs with Python code are refused."""
    verdicts = [
        judge(gold, prediction).verdict is Verdict.RIGHT
        for gold, prediction in pairs.filter(pl.col("flag").is_null()).select("gold", "prediction").iter_rows()
    ]
    expected = pairs.filter(pl.col("flag").is_null())["expected"].to_list()
    accepted = [n for n, (given, truth) in enumerate(zip(verdicts, expected, strict=True)) if given and not truth]
    missed = [n for n, (given, truth) in enumerate(zip(verdicts, expected, strict=True)) if truth and not given]
    assert accepted == []
    assert len(missed) <= MAX_MISSED
    for gold, prediction in pairs.filter(pl.col("flag") == "injection").select("gold", "prediction").iter_rows():
        assert judge(gold, prediction).verdict is not Verdict.RIGHT


def test_responses_that_are_cut_off_rarely_have_an_answer(pairs: pl.DataFrame) -> None:
    """Long responses cut after each sentence of their first four fifths: few of the ends look like a conclusion."""
    texts = [text for text in pairs["prediction"].unique(maintain_order=True) if len(text) > 250]
    parts = [
        text[: sentence.end()]
        for text in texts
        for sentence in re.finditer(r"[.!?:]\s|\n|\$\s", text[: int(0.8 * len(text))])
    ]
    parts = [part for part in parts if "boxed" not in part and "answer is" not in part.lower()]
    found = [part for part in parts if extract(part, frozenset(FALLBACKS)).answers]
    assert len(parts) > 3000
    assert len(found) <= 0.03 * len(parts)


def test_reference_answers_of_benchmarks_match_themselves(benchmark_golds: list[str]) -> None:
    assert [gold for gold in benchmark_golds if judge(gold, rf"\boxed{{{gold}}}").verdict is not Verdict.RIGHT] == []
    assert [gold for gold in benchmark_golds if reference_problem(gold)] == []
