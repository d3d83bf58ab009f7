"""extra new: files that work as they are, and nothing that is overwritten."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from extra_cli.main import main
from extra_rl.judging.inspection import faults_of_function
from extra_rl.tasks.own import inspect_task
from stages.experiment import experiment_of
from tests.config.test_config import MINIMAL
from tests.conftest import ROOT


def lines_of(output: str) -> dict[str, object]:
    """The lines of the configuration that the command prints."""
    found: dict[str, object] = yaml.safe_load(output.partition("In the configuration of a run in that folder:\n")[2])
    return found


@pytest.mark.parametrize("kind", ["task", "judge"])
def test_its_files_pass_their_test_and_the_checks_of_a_run(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"my_{kind}"
    assert main(["new", kind, name]) == 0
    lines = lines_of(capsys.readouterr().out)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{name}.py", f"test_{name}.py"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pytest_here = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"test_{name}.py"]
    done = subprocess.run(pytest_here, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout
    ruff = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--no-cache",
        "--ignore",
        "I",
        "--config",
        str(ROOT / "pyproject.toml"),
    ]
    assert subprocess.run(ruff, capture_output=True).returncode == 0
    sections = experiment_of(MINIMAL | lines).common
    task, weights = sections["verify"]["task"], list(sections["verify"]["weights"])
    reference = task["name"] if kind == "task" else task["judge"]
    found = faults_of_function(reference, weights, correct_at=1.0, memory_mb=2048, task=kind == "task")
    assert list(found) == []
    if kind == "task":
        assert set(inspect_task(reference)["levels"]) == set(sections["prepare"]["train_per_level"])


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "test_mine.py").write_text("kept")
    assert main(["new", "task", "mine", "--to", str(tmp_path)]) == 2
    assert "test_mine.py exists and is not overwritten" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["test_mine.py"]
    assert (tmp_path / "test_mine.py").read_text() == "kept"
    assert main(["new", "task", "mine", "--to", str(tmp_path / "none")]) == 2


@pytest.mark.parametrize("name", ["os", "Mine", "1st", "a-b", "a.b", "class", "json", "numpy", "../up", ""])
def test_a_name_must_be_free_and_a_module(name: str, tmp_path: Path) -> None:
    assert main(["new", "judge", name, "--to", str(tmp_path)]) == 2
    assert not list(tmp_path.iterdir())
