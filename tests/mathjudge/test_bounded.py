"""Hard limits: the cost of a row is bounded and affects no other row."""

from __future__ import annotations

import os
import time
from types import ModuleType

import pytest

from mathjudge import Item, MathJudge, MathJudgeError, Verdict, judge_all


def items(*responses: str) -> list[Item]:
    return [Item("gold", response) for response in responses]


def test_results_keep_the_order_of_the_items(misbehaving: ModuleType) -> None:
    responses = [str(n) for n in range(300)]
    judged = judge_all(misbehaving.echo, items(*responses), workers=2)
    assert [judgement.extracted for judgement in judged] == responses


def test_a_hang_costs_its_own_row_only(misbehaving: ModuleType) -> None:
    responses = ["fine"] * 40
    responses[7], responses[23] = "loop", "c_loop"
    began = time.monotonic()
    judged = judge_all(misbehaving.awkward, items(*responses), workers=2, timeout_s=0.5)
    assert time.monotonic() - began < 30
    assert [n for n, j in enumerate(judged) if j.verdict is Verdict.TIMEOUT] == [7, 23]
    assert {judged[7].rule, judged[23].rule} == {"time"}
    assert all(j.verdict is Verdict.RIGHT for n, j in enumerate(judged) if n not in (7, 23))


def test_a_sleeping_worker_is_killed_too(misbehaving: ModuleType) -> None:
    judged = judge_all(misbehaving.awkward, items("sleep", "fine"), timeout_s=0.2)
    assert [j.verdict for j in judged] == [Verdict.TIMEOUT, Verdict.RIGHT]


def test_memory_a_dead_worker_and_a_bug_are_told_apart(misbehaving: ModuleType) -> None:
    judged = judge_all(misbehaving.awkward, items("memory", "die", "bug", "fine"), memory_mb=1024)
    assert [(j.verdict, j.rule) for j in judged] == [
        (Verdict.TIMEOUT, "memory"),
        (Verdict.TIMEOUT, "died"),
        (Verdict.ERROR, "KeyError"),
        (Verdict.RIGHT, "fine"),
    ]


def test_of_too_long_a_response_only_the_end_is_judged(misbehaving: ModuleType) -> None:
    judged = judge_all(misbehaving.echo, items("x" * 90 + "end", "fine"), max_chars=10)
    assert [j.extracted for j in judged] == ["x" * 7 + "end", "fine"]


def test_only_a_box_counts_in_the_end_of_too_long_a_response() -> None:
    long = "We add. " * 100
    responses = [long + r"\boxed{42}", long + "The answer is 42.", r"\boxed{42}" + long]
    rows = [Item("42", response) for response in responses] + [Item("42", responses[1], truncated=True)]
    assert [(j.verdict, j.rule) for j in judge_all(MathJudge(), rows, max_chars=100)] == [
        (Verdict.RIGHT, "box/text"),
        (Verdict.NO_ANSWER, "too_long"),
        (Verdict.NO_ANSWER, "too_long"),
        (Verdict.TRUNCATED, "none"),
    ]


def test_workers_are_other_processes_and_gone_afterwards(misbehaving: ModuleType) -> None:
    pids = {int(j.extracted or 0) for j in judge_all(misbehaving.awkward, items(*["pid"] * 50), workers=2)}
    assert os.getpid() not in pids
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def test_progress_counts_every_row(misbehaving: ModuleType) -> None:
    seen: list[int] = []
    judge_all(misbehaving.echo, items("a", "b", "c" * 50), max_chars=10, progress=seen.append)
    assert sum(seen) == 3


def test_no_items(misbehaving: ModuleType) -> None:
    assert judge_all(misbehaving.echo, []) == []


def test_bad_limits_and_judges_are_refused(misbehaving: ModuleType) -> None:
    with pytest.raises(MathJudgeError, match="positive"):
        judge_all(misbehaving.echo, items("a"), workers=0)
    with pytest.raises(MathJudgeError, match="pickl"):
        judge_all(lambda item: misbehaving.echo(item), items("a"))


@pytest.mark.parametrize(
    "answer",
    [
        "9^{9^{9}}",
        "2^{2^{2^{49}}}",
        "7^{7^{7^{7^{7^7}}}}",
        "(10^9)!",
        "((10^6)!)!",
        "7" * 100_000,
        "1," * 1400 + "1",
        r"\sqrt{" * 90 + "2" + "}" * 90,
        r"\prod_{k=1}^{1000000} k",
        "(a+b+c+d+e+f)^{200}",
    ],
)
def test_hostile_answers_end_within_their_limit(answer: str) -> None:
    judged = judge_all(MathJudge(), [Item("42", rf"\boxed{{{answer}}}")], timeout_s=1.0)
    assert judged[0].verdict in (Verdict.WRONG, Verdict.TIMEOUT)


def test_a_judge_that_returns_no_judgement_is_an_error_and_shifts_no_verdict(misbehaving: ModuleType) -> None:
    with pytest.raises(MathJudgeError, match="returned NoneType for row 1; it must return a Judgement"):
        judge_all(misbehaving.forgetful, items("a", "nothing", "c"))
