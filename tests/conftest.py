"""Shared fixtures: one finished run of the real workflow with a small configuration."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

Finished = subprocess.CompletedProcess[str]

ROOT = Path(__file__).parents[1]
POLICY = ROOT / "tests" / "data" / "policy"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run whole workflows first: at the end one process would run them while the others are idle."""
    items.sort(key=lambda item: "workflow" not in item.path.parts)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the tests on a real Slurm out of every run that does not name them (`make test-slurm`)."""
    slurm = ROOT / "tests" / "slurm"
    named = (Path(word.partition("::")[0]).resolve() for word in config.args)
    return True if collection_path == slurm and not any(path.is_relative_to(slurm) for path in named) else None


@dataclass(frozen=True)
class Run:
    """A working directory of the workflow, outside of the checkout."""

    workdir: Path
    config: Path

    @property
    def results(self) -> Path:
        return self.workdir / "results" / yaml.safe_load(self.config.read_text())["name"]

    def snakemake(self, *arguments: str, check: bool = True, own_worker: bool = False) -> Finished:
        """Run the real workflow here; returns the finished process with its output.

        Importing torch and transformers takes longer than most of these runs, so they share the worker of the tests.
        """
        env = environment() | ({} if own_worker else {"EXTRA_WORKER": worker_of_the_tests()})
        done = subprocess.run(self.command(*arguments), text=True, capture_output=True, env=env, check=False)
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    def command(self, *arguments: str) -> list[str]:
        snakemake = str(Path(sys.executable).parent / "snakemake")
        return [
            snakemake,
            *("--snakefile", str(ROOT / "workflow" / "Snakefile")),
            *("--directory", str(self.workdir)),
            *("--configfile", str(self.config)),
            *("--cores", "2"),
            *arguments,
        ]


@functools.cache
def worker_of_the_tests() -> str:
    """Socket of a warm worker that ends with this process."""
    from extra_rl.worker.launch import start
    from stages.experiment import PRELOAD

    folder = Path(tempfile.mkdtemp(prefix="extra-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXTRA_WORKER", "")  # `start` sets it
        return str(start(folder, preload_extra=PRELOAD).socket)


def environment() -> dict[str, str]:
    """The environment without the EXTRA_ variables of an outer run."""
    return {key: value for key, value in os.environ.items() if not key.startswith("EXTRA_")}


def new_run(workdir: Path, **changes: object) -> Run:
    """A run in a new `workdir`, with tests/configs/mini.yaml and changes to its sections; `arms` replaces its arms."""
    config = yaml.safe_load((ROOT / "tests" / "configs" / "mini.yaml").read_text())
    config["model"]["source"] = str(POLICY)
    for key, value in changes.items():
        if key != "arms" and isinstance(value, dict) and isinstance(config.get(key), dict):
            config[key] = {**config[key], **value}
        else:
            config[key] = value
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / "config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return Run(workdir, path)


@pytest.fixture(scope="session")
def mini_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of tests/configs/mini.yaml. Tests read or copy it (`copy_of`) and never change it."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if os.environ.get("PYTEST_XDIST_WORKER") else shared
    with FileLock(shared / "mini.lock"):
        workdir = shared / "mini"
        if (workdir / "done").is_file():
            return Run(workdir, workdir / "config.yaml")
        shutil.rmtree(workdir, ignore_errors=True)
        run = new_run(workdir)
        run.snakemake(own_worker=True)
        (workdir / "done").touch()
    return run


def copy_of(run: Run, workdir: Path) -> Run:
    """A copy of a run that a test may change; the time stamps of files are kept."""
    shutil.copytree(run.workdir, workdir, symlinks=True)
    return Run(workdir, workdir / "config.yaml")
