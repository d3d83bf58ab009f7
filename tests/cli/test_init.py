"""`extra init`: the new folder runs the workflow of an installed wheel, without a checkout."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from extra_cli.init import configurations, make, packaged
from extra_cli.main import main
from extra_rl.run.context import CONTEXT_FILE, Horizon, RunContext
from tests.conftest import ROOT, environment

SNAKEMAKE = str(Path(sys.executable).parent / "snakemake")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked wheel of this checkout, to be put on PYTHONPATH."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "installed")
    return folder / "installed"


def run(installed: Path, workdir: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command that sees the wheel's packages before those of the checkout."""
    variables = {**environment(), "PYTHONPATH": str(installed)}
    return subprocess.run(command, cwd=workdir, env=variables, capture_output=True, text=True)


def test_the_wheel_holds_every_file_that_is_no_code(installed: Path) -> None:
    def data(root: Path) -> set[str]:
        found = {path.relative_to(root) for path in root.rglob("*") if path.is_file()}
        return {str(path) for path in found if path.suffix not in (".py", ".pyc") and path.name != ".DS_Store"}

    for package in ("extra_rl", "stages", "research"):
        assert data(installed / package) == data(ROOT / package), package
    for folder in ("workflow", "config"):
        assert data(installed / "extra_cli" / "project" / folder) == data(ROOT / folder), folder


def test_a_project_of_the_wheel_plans_its_jobs(installed: Path, tmp_path: Path) -> None:
    made = run(installed, tmp_path, sys.executable, "-m", "extra_cli.main", "init", "my project")
    assert (made.returncode, made.stderr) == (0, "")
    assert "  cd 'my project' && snakemake --cores 2\n" in made.stdout
    planned = run(
        installed, tmp_path / "my project", SNAKEMAKE, "--cores", "1", "--config", "iterations=1", "--dry-run"
    )
    assert planned.returncode == 0, planned.stderr
    assert "output files have to be generated:\n        advantage, choose_prefixes," in planned.stdout


def test_what_precedes_the_first_job_happens_in_a_project(installed: Path, tmp_path: Path) -> None:
    """Lock, context of the run and worker, though Snakemake ignores the `onstart` of a module."""
    project = tmp_path / "project"
    make(project, "tiny")
    (project / "results" / "tiny").mkdir(parents=True)
    command = (SNAKEMAKE, "--cores", "1", "--config", "iterations=1", "--until", "prepare")
    context = project / "results" / "tiny" / CONTEXT_FILE
    with (project / "results" / "tiny" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = run(installed, project, *command)
    assert refused.returncode == 2
    assert "InputError: results/tiny is being written by another run" in refused.stderr
    assert not (project / "results" / "tiny" / "prepare").exists()
    assert not context.exists()
    assert run(installed, project, *command).returncode == 0
    assert RunContext.read(context).horizon == Horizon(1, 0, 8e10)


def test_a_project_holds_its_configuration_and_profiles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(tmp_path / "a" / "b"), "--config", "mixed"]) == 0
    project = tmp_path / "a" / "b"
    assert capsys.readouterr().out.splitlines()[-1] == f"  cd {project} && snakemake --cores 2"
    assert (project / "config" / "config.yaml").read_text() == (ROOT / "config" / "mixed.yaml").read_text()
    made = {str(path.relative_to(project)) for path in project.rglob("*") if path.is_file()}
    assert made == {
        *(".gitignore", "README.md", "config/config.yaml", "config/schema.json", "workflow/Snakefile"),
        *(f"workflow/profiles/{name}/config.yaml" for name in ("default", "kubernetes", "slurm")),
    }
    assert "results/mixed" in (project / "README.md").read_text()


def test_an_empty_folder_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make(Path(), "tiny")
    assert os.listdir("config")
    assert (tmp_path / "README.md").read_text().startswith(f"# {tmp_path.name}\n")


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").touch()
    assert main(["init", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err
    assert main(["init", str(tmp_path / "mine")]) == 2
    assert os.listdir(tmp_path) == ["mine"]


def test_an_unknown_configuration_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(tmp_path / "new"), "--config", "config"]) == 2
    assert "tiny" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_every_configuration_can_be_chosen() -> None:
    names = {path.stem for path in (ROOT / "config").glob("*.yaml")} - {"config"}
    assert set(configurations()) == names
    assert packaged("workflow") == ROOT / "workflow"
