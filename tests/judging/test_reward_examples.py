"""The judges in examples/rewards, on their own problems, as a run calls them."""

from __future__ import annotations

import pytest

from extra_rl.config.sections import SourceConfig, TaskConfig, VerifierConfig
from extra_rl.judging.dispatch import Answer, judge_answers
from extra_rl.judging.inspection import faults_of_function
from extra_rl.judging.sandbox import run_python
from extra_rl.problems.sources import read_source
from extra_rl.verdict import Judgement, Scored, Verdict
from tests.conftest import ROOT

EXAMPLES = ROOT / "examples" / "rewards"


@pytest.fixture(autouse=True)
def _in_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES)


def judged(judge: str, *pairs: tuple[str, str]) -> list[Judgement]:
    answers = [Answer("", reference, response, True) for reference, response in pairs]
    return judge_answers(answers, TaskConfig(name="math", judge=judge), VerifierConfig(workers=2))


def numbers(judgement: Judgement) -> dict[str, float]:
    assert isinstance(judgement, Scored), judgement
    return dict(judgement.numbers)


@pytest.mark.parametrize(
    ("judge", "weights"), [("json_key:score", ["json", "key"]), ("unit_tests:score", ["passed", "length"])]
)
def test_they_pass_the_check_before_the_first_job(judge: str, weights: list[str]) -> None:
    assert list(faults_of_function(judge, weights, correct_at=1.0, memory_mb=2048)) == []


def test_json_with_a_key() -> None:
    (problem, *_) = read_source("questions", SourceConfig(path="questions.jsonl")).problems
    assert problem.answer == "George Eliot"
    responses = {
        '{"answer": "George Eliot"}': (1, 1, 1),
        ' {"answer": " George Eliot ", "sure": true}\n': (1, 1, 1),
        '{"answer": "Jane Austen"}': (0, 1, 1),
        '{"name": "George Eliot"}': (0, 1, 0),
        '["answer"]': (0, 1, 0),
        "George Eliot": (0, 0, 0),
        "": (0, 0, 0),
        "[" * 100_000: (0, 0, 0),
        '{"answer": 1440}': (0, 1, 1),
    }
    found = judged("json_key:score", *((problem.answer, response) for response in responses))
    expected = [dict(zip(("correct", "json", "key"), values, strict=True)) for values in responses.values()]
    assert [numbers(j) for j in found] == expected
    assert [j.verdict is Verdict.RIGHT for j in found] == [values[0] == 1 for values in responses.values()]


@pytest.mark.skipif(not run_python("", allow_network=True).isolation.network, reason="no namespaces on this system")
def test_unit_tests_of_programs() -> None:
    tests = {problem.text: problem.answer for problem in read_source("p", SourceConfig(path="programs.jsonl")).problems}
    even = next(answer for text, answer in tests.items() if "is_even" in text)
    cases = {
        "```python\ndef is_even(n):\n    return n % 2 == 0\n```": 3,
        "Here it is:\n```\nx = 1\n```\nor better\n```py\ndef is_even(n): return not n & 1\n```\nDone.": 3,
        "def is_even(n): return True": 2,
        "def is_even(n): return n == 2": 2,
        "def is_even(n): raise ValueError": 0,
        "raise SystemExit(0)": 0,
        "print('0123456789abcdef0123456789abcdef', 3)": 0,
        "def is_even(n):\n    while True: pass": 0,
        "x = bytearray(8 * 2**30)": 0,
        "not a program": 0,
    }
    found = judged("unit_tests:score", *((even, response) for response in cases))
    assert [numbers(j) for j in found] == [
        {"correct": float(passed == 3), "passed": passed / 3} for passed in cases.values()
    ]
    assert judged("unit_tests:score", (even, " \n"))[0] == Judgement(Verdict.NO_ANSWER, None, "unit_tests:score")
