"""check_references: which reference answers cannot be matched, and why."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import mathjudge
from extra_rl.config.sections import VerifierConfig
from extra_rl.judging import check
from extra_rl.judging.check import REASONS, ReferenceCheck, check_references, is_prose
from extra_rl.verdict import Judgement, Verdict
from mathjudge import Item, Policy

LIMITS = VerifierConfig(timeout_s=5.0)


def test_reasons_are_in_the_order_of_the_references() -> None:
    references = {
        "": "empty",
        "   ": "empty",
        r"\frac{1}{": "unbalanced",
        r"1 + \dots + n": "unparsed",
        "1/2": None,
        "073": None,
        "2, 1": None,
        r"\boxed{3} and \boxed{4}": None,
        "x \\in [-2,7]": None,
        r"\text{(C)}": None,
        "15\\mbox{ cm}^2": None,
        "the blue one": None,
    }
    assert dict(zip(references, check_references(list(references), LIMITS), strict=True)) == references


def test_equal_references_are_judged_once_and_each_gets_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[str] = []

    def judge_in_pool(
        judge: ReferenceCheck, items: list[Item], _: VerifierConfig, *, progress: Callable[[Item], object]
    ) -> list[Judgement]:
        judged.extend(item.gold for item in items)
        for item in items:
            progress(item)
        return [judge(item) for item in items]

    monkeypatch.setattr(check, "judge_in_pool", judge_in_pool)
    done: list[int] = []
    assert check_references(["7", "", "7", "7", ""], LIMITS, done.append) == [None, "empty", None, None, "empty"]
    assert judged == ["7", ""]
    assert sum(done) == 5


@pytest.mark.parametrize(
    ("verdict", "rule", "reason"),
    [
        (mathjudge.Verdict.RIGHT, "box/text", None),
        (mathjudge.Verdict.WRONG, "box/different", "different"),
        (mathjudge.Verdict.WRONG, "box/several_answers", "several_answers"),
        (mathjudge.Verdict.NO_ANSWER, "none", "not_found"),
        (mathjudge.Verdict.TRUNCATED, "unclosed_box", "not_found"),
    ],
)
def test_the_reason_follows_from_the_judgement_of_the_boxed_reference(
    verdict: mathjudge.Verdict, rule: str, reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, str]] = []

    def judge(gold: str, response: str, policy: Policy) -> mathjudge.Judgement:
        seen.append((gold, response))
        return mathjudge.Judgement(verdict, None, rule)

    monkeypatch.setattr(check, "judge", judge)
    found = ReferenceCheck(Policy())(Item(r"so it is \boxed{7}", ""))
    assert found.rule == (reason or rule)
    assert (found.verdict is mathjudge.Verdict.RIGHT) == (reason is None)
    ((gold, response),) = seen
    assert gold == r"so it is \boxed{7}"
    assert response.endswith(r"\boxed{7}")
    assert reason is None or reason in REASONS


def test_a_reference_that_takes_too_long_or_breaks_the_judge_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    judgements = [
        Judgement(Verdict.TIMEOUT, None, "time"),
        Judgement(Verdict.ERROR, None, "KeyError"),
        Judgement(Verdict.NO_ANSWER, None, "too_long"),
    ]
    monkeypatch.setattr(check, "judge_in_pool", lambda *_, **__: judgements)
    reasons = check_references(["a", "b", "c"], LIMITS)
    assert reasons == ["timeout", "error", "too_long"]
    assert set(reasons) <= set(REASONS)


def test_hostile_references_do_not_affect_others() -> None:
    hostile = ["9^{9^{9^{9}}}", "(10^9)!", "{" * 20_000, "1" * 30_000, r"\boxed{" * 5000]
    reasons = check_references([*hostile, "7"], VerifierConfig(timeout_s=1.0))
    assert reasons[-1] is None
    assert reasons[2] == "too_long" or reasons[2] == "unbalanced"
    assert reasons[3] == "too_long"


def test_every_reference_of_the_six_benchmarks_passes(benchmark_golds: list[str]) -> None:
    assert len(benchmark_golds) == 1547
    assert set(check_references(benchmark_golds, LIMITS)) == {None}


def test_no_references_give_no_reasons() -> None:
    assert check_references([], LIMITS) == []


@pytest.mark.parametrize("gold", ["Paris", "yes", r"\text{Evelyn}", "def f(x):\n  return x+1", "北京", "no solution"])
def test_words_and_code_are_prose(gold: str) -> None:
    assert is_prose(gold)


@pytest.mark.parametrize(
    "gold", ["7", "x", r"\text{(C)}", "5 miles per hour", r"\sin x", "pi", "so 3+4=7\n#### 7", "(a, b)", ""]
)
def test_formulas_units_and_letters_are_not_prose(gold: str) -> None:
    assert not is_prose(gold)
