"""A user's source files: found without running them, and part of the jobs that they change."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from extra_rl.config import derived
from extra_rl.errors import ConfigError
from extra_rl.preflight.faults import refuse_faults
from extra_rl.user_code import digest, files, find, is_reference, require_source, source_digest
from stages.experiment import experiment_of, job_json
from tests.config.test_config import MINIMAL
from tests.conftest import ROOT


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    derived._digest.cache_clear()
    return tmp_path


def write(folder: Path, **modules: str) -> None:
    for name, code in modules.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(code))


def test_what_is_a_reference() -> None:
    assert is_reference("a.b_c:D1")
    for text in ("a", "a:b c", "python a.py", "a.py:b", "a:", ":b", "a/b:c", "a:b:c", "1a:b"):
        assert not is_reference(text), text


def test_files_are_the_module_its_packages_and_what_it_imports_from_the_project(project: Path) -> None:
    (project / "pack" / "deep").mkdir(parents=True)
    write(project, judge="import json, helper, numpy\nfrom pack.deep import one\nraise SystemExit('it ran')")
    write(project, helper="def f():\n    import late", late="import judge", other="")
    write(project / "pack", __init__="", unused="")
    write(project / "pack" / "deep", __init__="", one="from .. import two\nfrom . import three", three="")
    write(project / "pack", two="")
    found = files("judge:score")
    names = ["judge", "helper", "late", "pack", "pack.deep", "pack.deep.one", "pack.deep.three", "pack.two"]
    assert sorted(found) == sorted(names)
    assert found["pack.two"] == project / "pack" / "two.py"


def test_a_digest_changes_with_each_of_these_files_only(project: Path) -> None:
    write(project, judge="import helper", helper="A = 1", other="")
    before = digest("judge:score")
    write(project, other="B = 2")
    assert digest("judge:score") == before
    write(project, helper="A = 2")
    after = digest("judge:score")
    assert after != before
    write(project, helper="A = 1")
    assert digest("judge:score") == before


def test_the_module_of_an_installed_package_is_found_without_importing_it() -> None:
    code = "import sys\nfrom extra_rl.user_code import find\nprint(find('xml.dom.minidom:parse'), 'xml' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("minidom.py False")


@pytest.mark.parametrize("reference", ["there_is_none:f", "json.nothing:f", "sys:exit", "pack.x:f"])
def test_a_module_without_a_source_file_is_refused(reference: str, project: Path) -> None:
    (project / "pack").mkdir()  # a folder without modules
    with pytest.raises(ConfigError, match=f"{reference}: there is no module"):
        find(reference)


def test_of_a_command_the_files_in_the_project_count(project: Path) -> None:
    write(project, judge="1")
    before = source_digest("python judge.py --fast")
    write(project, judge="2")
    assert source_digest("python judge.py --fast") not in ("", before)
    assert source_digest("true") == ""


def job(stage: str, raw: dict[str, Any]) -> dict[str, Any]:
    derived._digest.cache_clear()  # as in a new process
    place = {} if stage in ("prepare", "warm_start") else {"arm": "grpo", "seed": "0", "iteration": "0001"}
    found: dict[str, Any] = json.loads(job_json(experiment_of(raw), stage, place))
    return found


def test_an_edit_changes_the_jobs_that_run_the_code_and_no_others(project: Path) -> None:
    write(project, mine="def score(response): return 1", own="class Task: levels = ('a',)")
    stages = ["prepare", "warm_start", "generate", "verify", "evaluate", "advantage", "novelty"]
    rounds = {"generate": {"rounds": 2, "group_size": 4}, "verify": {"weights": {"correct": 1, "length": -0.1}}}
    task = {"train_per_level": {"a": 3}, "tuning_per_level": 1, "final_per_level": 1}
    cases: list[tuple[dict[str, Any], set[str], str]] = [
        ({"task": {"judge": "mine:score"}}, {"verify", "evaluate"}, "mine"),
        ({"task": {"judge": "mine:score"}} | rounds, {"verify", "evaluate", "generate"}, "mine"),
        ({"task": {"judge": "python mine.py"}}, {"verify", "evaluate"}, "mine"),
        ({"task": {"name": "own:Task"}, "prepare": task}, {"prepare", "warm_start", "verify", "evaluate"}, "own"),
        ({"task": {"name": "own:Task", "judge": "mine:score"}, "prepare": task}, {"prepare", "warm_start"}, "own"),
        ({"task": {"name": "own:Task", "judge": "mine:score"}, "prepare": task}, {"verify", "evaluate"}, "mine"),
    ]
    for changes, expected, edited in cases:
        raw = {key: value for key, value in MINIMAL.items() if key != "prepare" or "prepare" not in changes} | changes
        before = {stage: job(stage, raw) for stage in stages}
        text = (project / f"{edited}.py").read_text()
        (project / f"{edited}.py").write_text(text + "# edited\n")
        after = {stage: job(stage, raw) for stage in stages}
        (project / f"{edited}.py").write_text(text)
        assert {stage for stage in stages if before[stage] != after[stage]} == expected, changes
    assert job("generate", MINIMAL | {"task": {"judge": "mine:score"}} | rounds)["derived"]["weights"] == {
        "correct": 1.0,
        "length": -0.1,
    }


def test_without_own_code_no_job_has_such_a_value() -> None:
    for stage in ("prepare", "generate", "verify", "evaluate"):
        assert "derived" not in job(stage, MINIMAL)


def test_an_edit_during_a_run_is_refused(project: Path) -> None:
    write(project, mine="def score(response): return 1")
    expected = source_digest("mine:score")
    require_source("mine:score", expected)
    write(project, mine="def score(response): return 0")
    with pytest.raises(ConfigError, match="mine:score was edited after this run was started"):
        require_source("mine:score", expected)
    require_source("mine:score", "")


GOOD = "def score(response, reference): return {'correct': response == reference, 'format': 1}"
FAULTS = {
    "no module": ("", "missing:score", {}, "task.judge: missing:score: there is no module missing"),
    "no name": (GOOD, "mine:scores", {}, "mine.py defines no scores; it defines score"),
    "import": ("import nothing_of_this_name", "mine:score", {}, "cannot be imported: ModuleNotFoundError"),
    "syntax": ("def score(:", "mine:score", {}, "cannot be imported: SyntaxError"),
    "exit": ("import sys\nsys.exit(3)", "mine:score", {}, "cannot be imported: SystemExit: 3"),
    "dies": ("import os\nos._exit(3)", "mine:score", {}, "cannot be loaded: it ended with exit code 3"),
    "no function": ("score = 3", "mine:score", {}, "of the type int, not a function"),
    "class": ("class score: pass", "mine:score", {}, "mine:score is a class, not a function"),
    "parameter": ("def score(gold, response): return 1", "mine:score", {}, "has the parameter `gold`"),
    "no parameter": ("def score(): return 1", "mine:score", {}, "takes none of a response's values"),
    "position": ("def score(response, /): return 1", "mine:score", {}, "takes `response` by position only"),
    "async": ("async def score(response): return 1", "mine:score", {}, "asynchronous"),
    "text": ("def score(response): return 'good'", "mine:score", {}, "returned the text 'good'; verdicts are right"),
    "none": ("def score(response): pass", "mine:score", {}, "returned None instead of a verdict"),
    "weight": (GOOD, "mine:score", {"fromat": 1}, "verify.weights.fromat: mine:score returns no number fromat"),
    "verdict": ("def score(response): return 'right'", "mine:score", {"format": 1}, "returns no number format"),
    "program": (GOOD, "no-such-program --x", {}, "task.judge: 'no-such-program --x': there is no program"),
    "script": (GOOD, "python judge.py", {}, "there is no file judge.py"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_faults_are_found_before_the_first_job(case: str, project: Path) -> None:
    code, judge, weights, said = FAULTS[case]
    write(project, mine=code)
    experiment = experiment_of(MINIMAL | {"task": {"judge": judge}, "verify": {"weights": weights}})
    with pytest.raises(ConfigError) as raised:
        refuse_faults(experiment, project / "results", problems=False, model=False, packages=True)
    assert said in str(raised.value)
    assert len(str(raised.value).splitlines()) == 2, raised.value


def test_a_judge_that_raises_on_the_trial_is_not_refused(project: Path) -> None:
    """The trial response is made up: only a run can tell."""
    write(project, mine="def score(response, metadata): return metadata['tests'][response]")
    for weights in ({}, {"anything": 1}):
        experiment = experiment_of(MINIMAL | {"task": {"judge": "mine:score"}, "verify": {"weights": weights}})
        refuse_faults(experiment, project / "results", problems=False, model=False, packages=True)
