"""A user's function as a judge: what it may return, and every way in which its code can misbehave."""

from __future__ import annotations

import os
import textwrap
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from extra_rl.config.sections import TaskConfig, VerifierConfig
from extra_rl.errors import InputError
from extra_rl.judging.dispatch import FEW, Answer, faults_of_judge, judge_answers
from extra_rl.judging.result import judgement_of, number_of
from extra_rl.verdict import Judgement, Scored, Verdict

LIMITS = VerifierConfig(timeout_s=1.0, memory_mb=1024)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder as working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, name: str, code: str) -> None:
    (folder / f"{name}.py").write_text(textwrap.dedent(code))


def judged(judge: str, *answers: Answer, verifier: VerifierConfig = LIMITS, **task: Any) -> list[Judgement]:
    return judge_answers(answers, TaskConfig(name="math", judge=judge, **task), verifier)


def answer(response: str, **fields: Any) -> Answer:
    return Answer("the problem", "the reference", response, **{"finished": True, **fields})


def test_a_function_gets_what_its_parameters_name(project: Path) -> None:
    write(
        project,
        "mine",
        """
        def everything(*, problem, reference, response, tokens, metadata, truncated):
            given = (problem, reference, response, tokens, metadata, truncated)
            expected = ("the problem", "the reference", "é\\n", [5, 6], {"a": [1]}, True)
            return given == expected

        def some(response, reference, other=3): return response == "x" and reference == "the reference" and other == 3

        def all_of_them(**given): return len(given) == 6
        """,
    )
    full = answer("é\n", tokens=(5, 6), metadata='{"a": [1]}', finished=False)
    assert judged("mine:everything", full)[0].verdict is Verdict.RIGHT
    assert [j.verdict.value for j in judged("mine:some", answer("x"), answer("y"))] == ["right", "wrong"]
    assert judged("mine:all_of_them", answer("x"))[0].verdict is Verdict.RIGHT


def test_a_long_response_is_passed_whole(project: Path) -> None:
    write(project, "long", "def size(response, reference): return len(response) == len(reference) == 30000")
    long = Answer("", "r" * 30_000, "x" * 30_000, True)
    assert judged("long:size", long)[0].verdict is Verdict.RIGHT


@pytest.mark.parametrize(
    ("returned", "verdict", "numbers", "total"),
    [
        (True, "right", {"score": 1.0}, 1.0),
        (False, "wrong", {"score": 0.0}, 0.0),
        (0.75, "right", {"score": 0.75}, 0.75),
        (0.7, "wrong", {"score": 0.7}, 0.7),
        (-2, "wrong", {"score": -2.0}, -2.0),
        ({"correct": 1, "format": 0.5}, "right", {"correct": 1.0, "format": 0.5}, 1.5),
        ({"correct": 0.5, "format": True}, "wrong", {"correct": 0.5, "format": 1.0}, 1.5),
    ],
)
def test_numbers(returned: object, verdict: str, numbers: dict[str, float], total: float) -> None:
    assert judgement_of(returned, 0.75, "r") == Scored(Verdict(verdict), None, "r", numbers, total)


def test_verdicts_and_judgements_are_taken_as_they_are() -> None:
    assert judgement_of("no_answer", 1.0, "r") == Judgement(Verdict.NO_ANSWER, None, "r")
    assert judgement_of(Verdict.RIGHT, 1.0, "r") == Judgement(Verdict.RIGHT, None, "r")
    given = Judgement(Verdict.WRONG, "7", "box/number")
    assert judgement_of(given, 1.0, "r") is given


@pytest.mark.parametrize(
    ("returned", "why"),
    [
        ("yes", "returned the text 'yes'; verdicts are right, wrong"),
        (None, "returned None instead of a verdict"),
        (float("nan"), "returned nan instead of"),
        (float("inf"), "returned inf instead of"),
        (10**400, "returned int 1000"),
        ([1.0], "returned list [1.0]"),
        ({"correct": 1, "format": "good"}, "returned str 'good' as format"),
        ({"correct": float("nan")}, "returned nan as correct"),
        ({"format": 1}, "returned format without `correct`"),
        ({}, "returned no number without `correct`"),
        ({"correct": 1, "length": 3}, "returned a number length, which is built in"),
        ({"correct": 1, "a b": 3}, "with the name 'a b'"),
        ({"correct": 1, 3: 3}, "with the name 3"),
        ({"correct": 1, **{f"n{i}": 1 for i in range(64)}}, "returned 65 numbers"),
    ],
)
def test_an_unusable_value_is_an_error_with_its_reason(returned: object, why: str) -> None:
    found = judgement_of(returned, 1.0, "r")
    assert (found.verdict, found.extracted) == (Verdict.ERROR, None)
    assert why in found.rule
    assert len(found.rule) <= 200


def test_numbers_of_numpy_and_torch_count() -> None:
    import numpy as np
    import torch

    assert number_of(np.float32(0.5)) == 0.5
    assert number_of(np.bool_(True)) == 1.0
    assert number_of(torch.tensor(2)) == 2.0
    assert number_of(torch.tensor([2])) is None


NASTY = """
import ctypes, os, subprocess, sys, threading, time

seen = []

def score(response, tokens):
    if response == "good": return 1
    if response == "spins":
        while True: pass
    if response == "sleeps": time.sleep(600)
    if response == "allocates": return len(bytearray(8 * 2**30))
    if response == "raises": raise ValueError("no \\n luck")
    if response == "exits": sys.exit(0)
    if response == "exits at once": os._exit(0)
    if response == "crashes": ctypes.string_at(0)
    if response == "interrupts": raise KeyboardInterrupt
    if response == "recurses": return score(response, tokens)
    if response == "prints":
        print("x" * 1000000); sys.stderr.write("y" * 1000000); os.write(1, b'{"verdict": "right"}')
        return 0
    if response == "forks":
        if os.fork() == 0: return 1
        return 0
    if response == "leaves":
        subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)  # left by the judge"],
                         start_new_session=True)
        if os.fork() == 0: time.sleep(600)
        return 1
    if response == "closes": os.closerange(0, 1000)
    if response == "writes to every file":
        for fd in range(3, 50):
            try: os.write(fd, b"\\0" * 100)
            except OSError: pass
        return 0
    if response == "counts": seen.append(1); return len(seen)
    if response == "threads":
        threading.Thread(target=time.sleep, args=(600,)).start()
        return 1
    if response == "nothing": return None
    if response == "kills its group": os.killpg(0, 9)
    raise AssertionError(response)
"""

EXPECTED = {
    "good": ("right", "nasty:score"),
    "spins": ("timeout", "time"),
    "sleeps": ("timeout", "time"),
    "allocates": ("timeout", "memory"),
    "raises": ("error", "ValueError: no luck"),
    "exits": ("error", "SystemExit: 0"),
    "exits at once": ("error", "its process ended with exit code 0"),
    "crashes": ("error", "its process ended with signal 11"),
    "interrupts": ("error", "KeyboardInterrupt"),
    "recurses": ("error", "RecursionError: maximum recursion depth exceeded"),
    "prints": ("wrong", "nasty:score"),
    "forks": ("wrong", "nasty:score"),
    "leaves": ("right", "nasty:score"),
    "closes": ("error", "its process ended with exit code 1"),
    "counts": ("right", "nasty:score"),
    "threads": ("right", "nasty:score"),
    "nothing": ("error", "returned None instead of a verdict, a finite number or named numbers"),
    "kills its group": ("error", "its process ended with signal 9"),
}


def test_no_behaviour_of_a_function_reaches_another_response(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Two rows each, among good ones: a call sees nothing that an earlier one left, and ends with all it started."""
    write(project, "nasty", NASTY)
    names = [name for name in EXPECTED for _ in range(2)]
    began = time.monotonic()
    rows = [answer(text) for name in names for text in (name, "good")]
    found = judged("nasty:score", *rows, verifier=LIMITS.model_copy(update={"workers": 2}))
    assert time.monotonic() - began < 120
    assert [j.verdict for j in found[1::2]] == [Verdict.RIGHT] * len(names)
    told = [(j.verdict.value, j.rule) for j in found[::2]]
    expected = [EXPECTED[name] for name in names]
    assert [(verdict, rule.startswith(why)) for (verdict, rule), (_, why) in zip(told, expected, strict=True)] == [
        (verdict, True) for verdict, _ in expected
    ], told
    assert not [p for p in psutil.process_iter(["cmdline"]) if "left by the judge" in " ".join(p.info["cmdline"] or [])]
    output = capfd.readouterr()
    assert "xxx" not in output.out
    assert "yyy" not in output.err


def test_writing_to_inherited_files_harms_only_the_row_itself(project: Path) -> None:
    write(project, "nasty", NASTY)
    found = judged("nasty:score", answer("good"), answer("writes to every file"), answer("good"))
    assert [j.verdict.value for j in found][::2] == ["right", "right"]
    assert (found[1].verdict, found[1].rule) == (Verdict.ERROR, "its process wrote something that is no judgement")


def test_random_numbers_repeat_and_do_not_depend_on_other_responses(project: Path) -> None:
    write(
        project,
        "dice",
        "import random\nimport numpy as np\ndef roll(response): return random.random() + np.random.rand()",
    )
    many = judged("dice:roll", *[answer(str(n)) for n in range(5)], verifier=LIMITS.model_copy(update={"workers": 2}))
    again = judged("dice:roll", answer("other"))
    assert len({j.numbers["score"] for j in [*many, *again] if isinstance(j, Scored)}) == 1


def test_metadata_that_is_no_json_is_an_error_of_its_row(project: Path) -> None:
    write(project, "meta", "def score(response, metadata): return 1")
    found = judged("meta:score", answer("", metadata="{"), answer("", metadata='{"a": 1}'))
    assert [j.verdict.value for j in found] == ["error", "right"]
    assert found[0].rule.startswith("JSONDecodeError")


def test_a_function_is_imported_from_the_projects_folder_with_its_helpers(project: Path) -> None:
    (project / "pack").mkdir()
    write(project / "pack", "__init__", "from .numbers import ONE")
    write(project / "pack", "numbers", "ONE = 1")
    write(project / "pack", "judges", "import pack\ndef one(response): return pack.ONE")
    assert judged("pack.judges:one", answer(""))[0].verdict is Verdict.RIGHT


def test_a_function_that_fails_on_every_response_stops_the_run() -> None:
    task = TaskConfig(name="math", judge="mine:score")
    bad, good = Judgement(Verdict.ERROR, None, "ValueError: x"), Judgement(Verdict.RIGHT, None, "r")
    names = [f"r{n}" for n in range(FEW)]
    with pytest.raises(InputError, match=r"8 of 8 responses could not be judged by mine:score \(error 8\); first r0"):
        faults_of_judge([bad] * FEW, names, task)
    late = Judgement(Verdict.TIMEOUT, None, "time")
    said = faults_of_judge([good, late, bad, *[good] * 5], names, task)
    assert said.startswith("2 of 8 responses could not be judged by mine:score (error 1, timeout 1); first r1: timeout")
    assert faults_of_judge([good] * FEW, names, task) == ""
    assert "3 of 3" in faults_of_judge([bad] * 3, names[:3], task)
    assert faults_of_judge([bad] * FEW, names, TaskConfig(name="math")) == ""  # ours: counted by verdict, as before


def test_a_module_that_cannot_be_imported_is_an_input_error(project: Path) -> None:
    write(project, "broken", "import there_is_no_such_module\ndef score(response): return 1")
    with pytest.raises(InputError, match="did not start"):
        judged("broken:score", answer(""))


def test_the_working_directory_is_that_of_the_project(project: Path) -> None:
    write(project, "where", "import os\ndef here(response): return os.getcwd() == response")
    assert judged("where:here", answer(os.getcwd()))[0].verdict is Verdict.RIGHT
