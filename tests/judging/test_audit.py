"""Built-in second judges: which answers each judges equal, for mathematics and for generated tasks."""

from __future__ import annotations

import pytest

from extra_rl.config.sections import TaskConfig, VerifierConfig
from extra_rl.judging.audit import judge_mistake, second_judgements, string, sympy_only
from extra_rl.judging.command import Case
from extra_rl.verdict import Verdict
from mathjudge import Item

MATH, SUM = TaskConfig(name="math"), TaskConfig(name="signed_sum")


def case(gold: str, response: str, *, truncated: bool = False, extracted: str | None = None) -> Case:
    return Case("a", "2 + 2?", gold, response, truncated, extracted)


def verdicts(judge: str, cases: list[Case], task: TaskConfig = MATH) -> list[tuple[str, str | None, str]]:
    found = second_judgements(judge, cases, task, VerifierConfig(), timeout_s=60)
    return [(j.verdict.value, j.extracted, j.rule) for j in found]


def test_string_compares_spelling_and_not_values() -> None:
    cases = [
        case(r"\frac{1}{2}", r"so \boxed{\dfrac12}"),
        case("1/2", r"so \boxed{0.5}"),
        case("7", "I do not know what it is."),
        case("7", "7 and then", truncated=True),
    ]
    assert verdicts("string", cases) == [
        ("right", r"\dfrac12", "string"),
        ("wrong", "0.5", "string"),
        ("no_answer", None, "none"),
        ("truncated", None, "none"),
    ]


def test_sympy_only_compares_values_without_our_rules() -> None:
    cases = [case("1/2", r"\boxed{0.5}"), case("1/2", r"\boxed{0.6}"), case("10", r"\boxed{10_7}")]
    assert [v for v, _, _ in verdicts("sympy_only", cases)] == ["right", "wrong", "right"]


def test_both_judge_a_single_item() -> None:
    assert string(Item("1/2", r"\boxed{\frac12}")).verdict == "wrong"
    assert string(Item(r"\frac{1}{2}", r"\boxed{\dfrac12}")).verdict == "right"
    assert sympy_only(Item("1/2", r"\boxed{0.5}")).verdict == "right"
    assert sympy_only(Item("1/2", r"\boxed{0.6}")).verdict == "wrong"
    assert sympy_only(Item("1/2", "The answer", truncated=True)).verdict == "truncated"


@pytest.mark.parametrize("judge", ["string", "sympy_only"])
def test_a_generated_task_is_compared_by_the_extracted_answer_without_its_steps(judge: str) -> None:
    cases = [
        case("7", "2 + 2 = 7", extracted="7"),  # a correct number after an incorrect step
        case("7", "3 + 4 = 8", extracted="8"),
        case("7", "nothing 7", extracted=None),
    ]
    assert [v for v, _, _ in verdicts(judge, cases, SUM)] == ["right", "wrong", "no_answer"]


def test_the_limits_of_the_verifier_apply() -> None:
    verifier = VerifierConfig(max_chars=100)
    long = case("7", r"\boxed{7}" + "x" * 200)
    (found,) = second_judgements("string", [long], MATH, verifier, timeout_s=60)
    assert (found.verdict, found.rule) == (Verdict.NO_ANSWER, "too_long")


@pytest.mark.parametrize(("judge", "part"), [("", "name a judge"), ("   ", "name a judge"), ("sh 'x", "command line")])
def test_an_invalid_judge_is_refused(judge: str, part: str) -> None:
    assert part in (judge_mistake(judge) or "")


@pytest.mark.parametrize("judge", ["none", "string", "sympy_only", "python judge.py --strict"])
def test_a_name_or_a_command_line_is_a_judge(judge: str) -> None:
    assert judge_mistake(judge) is None
