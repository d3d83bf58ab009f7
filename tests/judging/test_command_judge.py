"""A command as a judge: its input, valid answers, and every way in which it can fail."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from extra_rl.errors import InputError
from extra_rl.judging.command import Case, judge_by_command
from extra_rl.verdict import Judgement, Verdict
from tests.conftest import ROOT

CASES = [
    Case("a/0", "2 + 2 =", "4", "it is 4", False, "4"),
    Case("a/1", "1 + 1 =", "2", "it is ½\n\u2028 \x00", True, None),
]
READ = "import json, sys\nrows = [json.loads(line) for line in sys.stdin]\n"
ANSWER = READ + "for row in reversed(rows): print(json.dumps({'id': row['id'], 'verdict': 'right'}))\n"


def program(folder: Path, code: str) -> str:
    """A command line that runs the code."""
    file = folder / "my judge.py"
    file.write_text(textwrap.dedent(code))
    return shlex.join([sys.executable, "-S", str(file)])


def answers(folder: Path, *lines: str) -> str:
    """A command that writes these lines for any input."""
    return program(folder, f"print({chr(10).join(lines)!r})")


def test_it_receives_every_case_and_answers_in_any_order(tmp_path: Path) -> None:
    code = (
        READ
        + f"""
with open({str(tmp_path / "received")!r}, "w") as file: json.dump(rows, file)
for row in reversed(rows):
    answer = {{"id": row["id"], "verdict": "wrong" if row["truncated"] else "right", "extracted": row["gold"]}}
    print(json.dumps(answer | ({{"rule": "mine"}} if row["truncated"] else {{}})))
"""
    )
    lines: list[int] = []
    found = judge_by_command(program(tmp_path, code), CASES, 30, lines.append)
    assert found == [Judgement(Verdict.RIGHT, "4", "command"), Judgement(Verdict.WRONG, "2", "mine")]
    assert sum(lines) == 2
    received = json.loads((tmp_path / "received").read_text())
    assert received == [
        {"id": "a/0", "problem": "2 + 2 =", "gold": "4", "response": "it is 4", "truncated": False},
        {"id": "a/1", "problem": "1 + 1 =", "gold": "2", "response": "it is ½\n\u2028 \x00", "truncated": True},
    ]


def test_without_cases_the_program_is_not_started() -> None:
    assert judge_by_command("/no/such/program", [], 1) == []


def test_the_command_is_not_run_by_a_shell(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        judge_by_command(f"true; touch {tmp_path}/made $(touch {tmp_path}/made)", CASES, 30)
    assert not (tmp_path / "made").exists()


A, B = '{"id": "a/0", "verdict": "right"}', '{"id": "a/1", "verdict": "wrong"}'


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([A], "left 1 of 2 responses unanswered, first a/1"),
        ([""], "left 2 of 2 responses unanswered, first a/0"),
        ([A, B, A], "wrote in line 3 a second answer to a/0"),
        ([A, '{"id": "a/7", "verdict": "right"}'], "line 2 an unknown id: 'a/7'"),
        ([A, '{"verdict": "right"}'], "line 2 an unknown id: None"),
        ([A, '{"id": ["a/1"], "verdict": "right"}'], "line 2 an unknown id"),
        ([A, '{"id": "a/1", "verdict": "correct"}'], "line 2 the verdict 'correct'; known: right, wrong"),
        ([A, '{"id": "a/1", "verdict": true}'], "line 2 the verdict True"),
        ([A, '{"id": "a/1", "verdict": ["right"]}'], "line 2 the verdict"),
        ([A, '{"id": "a/1"}'], "line 2 the verdict None"),
        ([A, '{"id": "a/1", "verdict": "right", "extracted": 2}'], "line 2 an `extracted` or `rule` that is not text"),
        ([A, '{"id": "a/1", "verdict": "right", "rule": null}'], "line 2 an `extracted` or `rule` that is not text"),
        (["loading the model ...", A, B], "line 1 no JSON: b'loading the model ...'"),
        ([A, "[" * 10_000], "line 2 no JSON"),
        ([A, '"a/1"'], "line 2 no JSON object"),
    ],
)
def test_an_invalid_answer_is_one_error(lines: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        judge_by_command(answers(tmp_path, *lines), CASES, 30)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 600


def test_text_that_a_table_cannot_store_is_replaced(tmp_path: Path) -> None:
    lone = '{"id": "a/0", "verdict": "right", "extracted": "\\ud800", "rule": "\\udfff"}'
    first, _ = judge_by_command(answers(tmp_path, lone, B), CASES, 30)
    assert (first.extracted, first.rule) == ("?", "?")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "import sys; sys.exit('my model is missing')",
            r"exit code 1\. Its standard error:\nmy model is missing",
        ),
        (ANSWER + "sys.exit(3)", r"exit code 3"),
        (ANSWER + "import os, signal; os.kill(os.getpid(), signal.SIGKILL)", r"exit code 137"),
        ("", "left 2 of 2"),
        ("while True: print('x' * 1000)", "wrote more than"),
        ("import sys; sys.stderr.write('e' * 10**6 + 'at last'); sys.exit(1)", r"e{500}at last$"),
    ],
)
def test_a_program_that_fails_is_one_error(code: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as caught:
        judge_by_command(program(tmp_path, code), CASES, 30)
    assert len(str(caught.value)) < 3000


def test_a_missing_and_a_forbidden_program_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"`no-such-judge` ended .*\nno-such-judge: No such file"):
        judge_by_command("no-such-judge", CASES, 30)
    (tmp_path / "judge").write_text("")
    with pytest.raises(InputError, match="Permission denied"):
        judge_by_command(str(tmp_path / "judge"), CASES, 30)


HANGS = """
import subprocess, sys, time
child = subprocess.Popen(["sleep", "600"])
with open({pids!r}, "w") as file: print(child.pid, file=file)
{rest}
"""


@pytest.mark.parametrize(
    "rest",
    ["time.sleep(600)", "while True: pass", "sys.stdout.close(); sys.stderr.close(); time.sleep(600)"],
    ids=["sleeps", "spins", "closes its output"],
)
def test_a_program_that_hangs_is_killed_with_its_children(rest: str, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    began = time.monotonic()
    with pytest.raises(InputError, match=r"did not finish within 2 s \(audit\.timeout_s\)"):
        judge_by_command(program(tmp_path, HANGS.format(pids=str(pids), rest=rest)), CASES, 2)
    assert time.monotonic() - began < 20
    assert_gone(int(pids.read_text()))


def test_children_that_outlive_the_program_are_killed_and_not_waited_for(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    began = time.monotonic()
    found = judge_by_command(program(tmp_path, HANGS.format(pids=str(pids), rest=ANSWER)), CASES, 60)
    assert [j.verdict for j in found] == [Verdict.RIGHT, Verdict.RIGHT]
    assert time.monotonic() - began < 30
    assert_gone(int(pids.read_text()))


def test_it_does_not_outlive_a_caller_that_is_killed(tmp_path: Path) -> None:
    """As after kill -9 of the workflow, when no process of ours can end the program."""
    pids = tmp_path / "pids"
    command = program(tmp_path, HANGS.format(pids=str(pids), rest="time.sleep(600)"))
    code = f"""
from extra_rl.judging.command import Case, judge_by_command
judge_by_command({command!r}, [Case("a", "", "", "", False, None)], 600)
"""
    caller = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    try:
        wait_for(lambda: pids.is_file() and bool(pids.read_text().strip()))
    finally:
        os.kill(caller.pid, signal.SIGKILL)
        caller.wait()
    assert_gone(int(pids.read_text()))


def test_a_batch_larger_than_a_pipe_does_not_block(tmp_path: Path) -> None:
    """The program answers before it reads its input, so both pipes fill up."""
    cases = [Case(f"r{n}", "p" * 500, "4", "r" * 500, False, None) for n in range(2000)]
    code = """
import json, sys
for n in range(2000): print(json.dumps({"id": f"r{n}", "verdict": "wrong", "rule": "y" * 500}))
sys.stderr.write("z" * 10**6)
sys.stdin.read()
"""
    found = judge_by_command(program(tmp_path, code), cases, 60)
    assert {(j.verdict, len(j.rule)) for j in found} == {(Verdict.WRONG, 500)}


def assert_gone(pid: int) -> None:
    def gone() -> bool:
        return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE

    wait_for(gone)


def wait_for(condition: object, seconds: float = 20.0) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"still false after {seconds:g} s"
        time.sleep(0.05)
