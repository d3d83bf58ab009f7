"""A command as the judge of a run: every response gets a verdict, whatever the command does."""

from __future__ import annotations

import shlex
import sys
import textwrap
from pathlib import Path

import pytest

from extra_rl.config.sections import TaskConfig, VerifierConfig
from extra_rl.judging import command_judge
from extra_rl.judging.dispatch import Answer, judge_answers
from extra_rl.verdict import Judgement, Scored, Verdict

READ = "import json, os, sys, time\nrows = [json.loads(line) for line in sys.stdin]\n"


def judged(folder: Path, code: str, *responses: str, correct_at: float = 1.0) -> list[Judgement]:
    file = folder / "judge.py"
    file.write_text(READ + textwrap.dedent(code))
    command = shlex.join([sys.executable, "-S", str(file)])
    answers = [Answer("p", "g", text, True, metadata='{"m": 1}', tokens=(1, 2)) for text in responses]
    return judge_answers(answers, TaskConfig(name="math", judge=command, correct_at=correct_at), VerifierConfig())


def test_verdicts_scores_and_numbers_in_any_order(tmp_path: Path) -> None:
    code = """
    print("loading"); print("[1, 2]"); print('{"id": "none"}'); print('{"id": "99", "score": 1}')
    answers = {"a": {"verdict": "no_answer", "rule": "mine"}, "b": {"score": 0.5, "extracted": "x"},
               "c": {"numbers": {"correct": 0, "format": 1}}}
    for row in reversed(rows):
        assert {**row, "id": "", "response": ""} == {
            "id": "", "problem": "p", "gold": "g", "response": "", "truncated": False, "tokens": [1, 2],
            "metadata": {"m": 1}}
        print(json.dumps({"id": row["id"], **answers[row["response"]]}))
    """
    assert judged(tmp_path, code, "a", "b", "c", correct_at=0.5) == [
        Judgement(Verdict.NO_ANSWER, None, "mine"),
        Scored(Verdict.RIGHT, "x", "command", {"score": 0.5}, 0.5),
        Scored(Verdict.WRONG, None, "command", {"correct": 0.0, "format": 1.0}, 1.0),
    ]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ('{"id": ID, "verdict": "yes"}', "returned the text 'yes'"),
        ('{"id": ID, "verdict": 1}', "answered with the verdict 1"),
        ('{"id": ID, "score": NaN}', "returned nan"),
        ('{"id": ID, "score": "1"}', "answered with the score '1'"),
        ('{"id": ID, "score": null}', "answered with the score None"),
        ('{"id": ID, "numbers": {"format": 1}}', "without `correct`"),
        ('{"id": ID}', "answered with neither"),
        ('{"id": ID, "verdict": "right", "score": 1}', "answered with verdict and score"),
        ('{"id": ID, "verdict": "right", "rule": 3}', "`extracted` or `rule` that is not text"),
        ("not JSON", "left it unanswered"),
    ],
)
def test_an_unusable_answer_is_an_error_of_its_response(answer: str, why: str, tmp_path: Path) -> None:
    code = f"""
    for row in rows:
        good = '{{"id": ID, "verdict": "right"}}'
        print((({answer!r}) if row["response"] == "bad" else good).replace("ID", json.dumps(row["id"])))
    """
    first, bad, last = judged(tmp_path, code, "good", "bad", "good")
    assert [first.verdict, last.verdict] == [Verdict.RIGHT] * 2
    assert bad.verdict is Verdict.ERROR
    assert why in bad.rule


def test_a_command_that_crashes_on_some_responses_is_started_again_for_the_others(tmp_path: Path) -> None:
    code = """
    for row in rows:
        if row["response"] == "crash": sys.stderr.write("it broke"); sys.stdout.flush(); os._exit(3)
        print(json.dumps({"id": row["id"], "score": True}), flush=True)
    """
    found = judged(tmp_path, code, "a", "crash", "b", "crash", "c")
    assert [j.verdict.value for j in found] == ["right", "error", "right", "error", "right"]
    assert "ended with exit code 3" in found[1].rule
    assert "it broke" in found[1].rule


def test_a_command_that_always_fails_gives_errors(tmp_path: Path) -> None:
    found = judged(tmp_path, "raise SystemExit(2)", *["a"] * 12)
    assert {j.verdict for j in found} == {Verdict.ERROR}
    assert "ended with exit code 2" in found[-1].rule


def test_what_is_unanswered_when_the_time_is_over_is_a_timeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_judge, "LEAST_S", 2.0)
    file = tmp_path / "judge.py"
    file.write_text(READ + "print(json.dumps({'id': rows[0]['id'], 'score': 1}), flush=True)\ntime.sleep(600)\n")
    command = shlex.join([sys.executable, "-S", str(file)])
    answers = [Answer("p", "g", text, True) for text in "ab"]
    found = judge_answers(answers, TaskConfig(name="math", judge=command), VerifierConfig(timeout_s=0.1))
    assert [(j.verdict.value, j.rule) for j in found] == [("right", "command"), ("timeout", "time")]


def test_nothing_to_judge_starts_nothing(tmp_path: Path) -> None:
    assert judged(tmp_path, "raise SystemExit") == []
