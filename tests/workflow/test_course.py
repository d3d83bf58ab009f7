"""A change of course in real runs: a fork with a schedule, a selection of arms, and what a new entry makes again.

One run is trained: a fork of the finished one that shares iteration 0, of one arm, with a schedule from iteration 2 on.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pytest
import yaml
from filelock import FileLock

from extra_cli.main import main
from extra_rl.models.policy import read_manifest
from extra_rl.tables.files import read_provenance
from tests.conftest import Run, copy_of

TABLES = ("select", "generate", "verify_generate", "score_entropy_generate", "advantage", "update", "summarize")


def digests(folder: Path) -> dict[str, str]:
    """Path -> digest of every file but the lock, which a fork takes."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def outputs(said: str) -> set[str]:
    lines = re.findall(r"^    output: (.*)$", said, flags=re.MULTILINE)
    return {path for line in lines for path in line.split(", ")}


def edit(config: Path, **changes: object) -> None:
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | changes, sort_keys=False))


class Forked:
    """The finished run and its fork. before: digests of the finished run. said: what the workflow printed."""

    def __init__(self, parent: Run, fork: Run, before: Mapping[str, str], said: str) -> None:
        self.parent, self.fork, self.before, self.said = parent, fork, before, said


@pytest.fixture(scope="session")
def forked(mini_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Forked:
    """Made once, also where several processes share the tests. Tests read it and never change it."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if os.environ.get("PYTEST_XDIST_WORKER") else shared
    with FileLock(shared / "forked.lock"):
        workdir, notes = shared / "forked", shared / "forked.json"
        parent, fork = Run(workdir, workdir / "config.yaml"), Run(workdir, workdir / "fork.yaml")
        if notes.is_file():
            return Forked(parent, fork, *json.loads(notes.read_text()))
        copy_of(mini_run, workdir)
        before = digests(parent.results)
        assert main(["fork", str(parent.results), "--at", "1", "--name", "fork", "--out", str(fork.config)]) == 0
        edit(fork.config, schedule=[{"from": 2, "update.learning_rate": 1e-4}])
        said = fork.snakemake("--config", "arms=grpo").stdout
        notes.write_text(json.dumps([before, said]))
        return Forked(parent, fork, before, said)


def test_only_iterations_after_the_fork_were_made(forked: Forked) -> None:
    lines = [line for line in forked.said.splitlines() if "iterations" in line]
    assert [line.split(",")[0] for line in lines] == ["grpo/s0: 2/3 iterations", "grpo/s0: 3/3 iterations"]
    assert "evaluate warm start" not in forked.said
    shared = forked.fork.results / "grpo" / "s0" / "iteration_0000"
    for path in (shared / "generate.parquet", shared / "policy" / "model.safetensors"):
        assert path.samefile(forked.parent.results / path.relative_to(forked.fork.results))


def test_the_run_that_was_forked_is_as_it_was(forked: Forked) -> None:
    assert digests(forked.parent.results) == forked.before


def test_a_fork_goes_on_as_the_run_would_have_until_its_schedule_changes_something(forked: Forked) -> None:
    ours, theirs = (run.results / "grpo" / "s0" for run in (forked.fork, forked.parent))
    for name in TABLES:
        path = Path("iteration_0001") / f"{name}.parquet"
        assert (ours / path).read_bytes() == (theirs / path).read_bytes(), name
    policies = [Path(f"iteration_000{i}") / "policy" / "manifest.json" for i in (1, 2)]
    same = [read_manifest(ours / path)["digest"] == read_manifest(theirs / path)["digest"] for path in policies]
    assert same == [True, False]
    update = Path("iteration_0002") / "update.parquet"
    rates = [pl.read_parquet(run / update)["learning_rate"].unique().to_list() for run in (ours, theirs)]
    assert rates[0] == pytest.approx([1e-4])
    assert rates[1] == pytest.approx([3e-4])
    assert read_provenance(ours / update)["job"]["since"] == 2


def test_only_the_selected_arm_ran_and_the_whole_run_adds_the_other(forked: Forked, tmp_path: Path) -> None:
    summary = json.loads((forked.fork.results / "summary.json").read_text())
    assert list(summary["arms"]) == ["grpo"]
    assert "extra/s0" not in (forked.fork.results / "report.html").read_text()
    planned = outputs(forked.fork.snakemake("--dry-run", "--quiet", "host").stdout)
    assert not any("/grpo/" in path or "/prepare/" in path or "/warm_start/" in path for path in planned)
    assert {Path(path).parts[4] for path in planned if "/extra/" in path} == {"iteration_0001", "iteration_0002"}
    again = forked.fork.snakemake("--dry-run", "--config", "arms=grpo").stdout
    assert "Nothing to be done" in again


def test_unknown_arms_are_one_line(forked: Forked) -> None:
    done = forked.fork.snakemake("--dry-run", "--config", "arms=grop", check=False)
    assert done.returncode == 2
    reason = "there is no arm 'grop'; the configuration has grpo, extra; did you mean `grpo`?"
    assert done.stderr.strip().splitlines()[-1] == f"ConfigError: --config arms=grop: {reason}"


def test_readers_name_the_origin_and_find_nothing_wrong(forked: Forked, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(forked.fork.results)]) == 0
    assert capsys.readouterr().out.startswith("forked from mini at iteration 1 (policies ")
    assert main(["check", str(forked.fork.results)]) == 0
    page = (forked.fork.results / "report.html").read_text()
    assert "mini at iteration 1 (policies " in page
    assert "update.learning_rate" in page


def test_a_repair_of_the_fork_moves_only_its_own_files(forked: Forked, tmp_path: Path) -> None:
    run = copy_of(forked.fork, tmp_path / "run")
    mine, theirs = (
        tmp_path / "run" / "results" / name / "grpo" / "s0" / "iteration_0000" / "generate.parquet"
        for name in ("fork", "mini")
    )
    mine.unlink()
    mine.hardlink_to(theirs)  # a copy of the folder has made two files of them
    content = theirs.read_bytes()
    swapped = mine.with_name("verify_generate.parquet")
    swapped.unlink()
    swapped.hardlink_to(mine)  # a table in a wrong place
    assert main(["check", str(run.workdir / "results" / "fork"), "--repair"]) == 1
    assert not swapped.exists()
    assert theirs.read_bytes() == content


def test_a_new_entry_makes_again_from_its_iteration_on_and_says_so(mini_run: Run, tmp_path: Path) -> None:
    run = copy_of(mini_run, tmp_path / "run")
    edit(run.config, schedule=[{"from": 1, "arms": ["extra"], "update.learning_rate": 1e-4}])
    done = run.snakemake("--dry-run", "--quiet", "host")
    planned = outputs(done.stdout)
    assert not any("iteration_0000" in path or "/grpo/" in path for path in planned)
    first = "results/mini/extra/s0/iteration_0001/update.parquet"
    assert first in planned
    assert first.replace("update", "advantage") not in planned
    rate = "update.learning_rate: 0.0003, now 0.0001"
    assert f"  {first} and 3 more: settings of the schedule, from: (not set), now 1; {rate}\n" in done.stderr
    assert "`extra fork results/mini --at 1 --name NEW`" in done.stderr


def test_forks_that_cannot_be_made_leave_nothing(forked: Forked, capsys: pytest.CaptureFixture[str]) -> None:
    results, names = forked.parent.results, sorted(path.name for path in forked.parent.results.parent.iterdir())

    def refusal(*words: str) -> str:
        assert main(["fork", str(results), "--name", "no", *words]) == 2
        assert sorted(path.name for path in results.parent.iterdir()) == names
        return capsys.readouterr().err

    assert "the run ends before this iteration" in refusal("--at", "3")
    said = refusal("--at", "5", "--set", "iterations=9")
    assert "cannot be forked at iteration 5" in said
    assert "Iterations that can be forked: 0, 1, 2, 3 (0 shares the start only)." in said
    assert "from 1: update.learning_rat: unknown key" in refusal("--at", "1", "--set", "update.learning_rat=1")
    assert "exists. Choose another --name" in refusal("--at", "1", "--name", "fork")
    other = forked.parent.workdir / "other.yaml"
    other.write_text(yaml.safe_dump(yaml.safe_load(forked.parent.config.read_text()) | {"generate": {"group_size": 3}}))
    said = refusal("--at", "1", "--configfile", str(other))
    other.unlink()
    assert "were not made with its configuration" in said
    assert "generate.group_size: 4, now 3" in said
