"""Runs of the real workflow on a real Slurm: the command, the queue and the history of a run's jobs."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from extra_rl.run import slurm
from extra_rl.run.slurm import SlurmJob
from tests.conftest import ROOT, Finished, Run, environment, new_run, worker_of_the_tests
from tests.workflow.processes import RunningWorkflow, tables_and_policies

PROFILE = ROOT / "workflow" / "profiles" / "slurm"
POLL_SECONDS = 1
"""Of the tests' profile: `slurm-init-seconds-before-status-checks`."""


@dataclass(frozen=True)
class Slurm:
    """The Slurm that the tests use. ours: whether they have started it, and may drain its node."""

    accounting: bool
    ours: bool
    node: str


def said(*command: str) -> str:
    """What a command of Slurm prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@dataclass(frozen=True)
class ClusterRun(Run):
    """A working directory whose run is submitted to Slurm, with the profile in `profile`.

    warm: whether the stages of its jobs run in the tests' worker, which saves most of their time: Slurm hands its jobs
    the environment of Snakemake, and the node is this machine. Users' stages are cold, or have a worker in the job.
    """

    profile: Path = PROFILE
    warm: bool = False

    def command(self, *arguments: str) -> list[str]:
        words = super().command(*arguments)
        cores = words.index("--cores")
        return [*words[:cores], "--workflow-profile", str(self.profile), *words[cores + 2 :]]

    def environment(self) -> dict[str, str]:
        return environment() | ({"EXTRA_WORKER": worker_of_the_tests()} if self.warm else {})

    def snakemake(self, *arguments: str, check: bool = True, own_worker: bool = False) -> Finished:
        words, variables = self.command(*arguments), self.environment()
        done = subprocess.run(words, text=True, capture_output=True, env=variables, check=False)
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    def jobs(self) -> list[SlurmJob]:
        """The jobs of this run in the queue."""
        return slurm.jobs_of(self.results)

    def job(self, work: str, state: str = "RUNNING") -> str:
        """The id of a job whose work and state match patterns; empty where there is none."""
        found = (job for job in self.jobs() if re.fullmatch(state, job.state) and re.search(work, job.work))
        return next((job.id for job in found), "")

    def ended(self) -> list[Ended]:
        """All jobs of this run that have started, in that order, as long as squeue remembers them (MinJobAge)."""
        lines = said("squeue", "--noheader", "--states=all", "--format=%i|%T|%j|%l|%S|%e|%k").splitlines()
        found = [line.split("|", 6) for line in lines]
        prefix = f"{slurm.prefix_of(self.results)}_"
        mine = [fields for fields in found if fields[2].startswith(prefix) and fields[1] not in slurm.PENDING]
        jobs = [Ended(i, state, work, limit, start, end) for i, state, _, limit, start, end, work in mine]
        return sorted(jobs, key=lambda job: job.start)


@dataclass(frozen=True)
class Ended:
    """One job of the past. limit: `days-hours:minutes:seconds`, as squeue writes it; start, end: ISO times."""

    id: str
    state: str
    work: str
    limit: str
    start: str
    end: str


def overlapping(jobs: Sequence[Ended]) -> list[tuple[Ended, Ended]]:
    """Pairs of jobs that did the same work at the same time.

    The tasks of an array have one comment, of its first task, so its number is part of the work.
    """
    by_work: defaultdict[tuple[str, str], list[Ended]] = defaultdict(list)
    for job in sorted(jobs, key=lambda job: job.start):
        by_work[job.work, job.id.partition("_")[2]].append(job)
    pairs = [(a, b) for same in by_work.values() for a, b in pairwise(same)]
    return [(a, b) for a, b in pairs if b.start < a.end]


class RunningOnSlurm(RunningWorkflow):
    """A run that a test disturbs. Its jobs are not processes of Snakemake's family; they are cancelled at the end."""

    def __init__(self, run: ClusterRun, *arguments: str) -> None:
        self._run = run
        super().__init__(run, *arguments, variables=run.environment())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if kind:
            slurm.cancel(self._run.results, self._run.jobs())

    def wait_for_job(self, work: str, state: str = "RUNNING", seconds: float = 120) -> str:
        """The id of the first job whose work and state match patterns."""
        return until(lambda: self._run.job(work, state), self, seconds)

    def finish(self, seconds: float = 900) -> str:
        """Wait for the end of the run, which must succeed; return its output."""
        code = self.wait(seconds)
        assert code == 0, self.output()
        return self.output()


def until(condition: Callable[[], Any], running: RunningOnSlurm | None = None, seconds: float = 120) -> Any:
    """The first true value of a condition that asks Slurm, which is not done a hundred times a second."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        output = running.output() if running else ""
        assert running is None or running.runs(), f"the run has ended: {output}"
        assert time.monotonic() < deadline, f"not within {seconds} s: {output}"
        time.sleep(0.2)
    return value


def profile_of_the_tests(folder: Path, **resources: dict[str, Any]) -> Path:
    """A copy of the profile that polls often and requests memory of small models. resources: further ones, by rule."""
    profile = yaml.safe_load((PROFILE / "config.yaml").read_text())
    profile["default-resources"] = ["runtime=20 * attempt", "mem_mb=400"]
    for wanted in profile["set-resources"].values():
        if "mem_mb" in wanted:
            wanted["mem_mb"] = "600 * attempt"
    for rule, wanted in resources.items():
        profile["set-resources"].setdefault(rule, {}).update(wanted)
    profile["slurm-init-seconds-before-status-checks"] = POLL_SECONDS
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(profile, sort_keys=False))
    return folder


def small_run(workdir: Path, **changes: object) -> Run:
    """A new run of two arms, which reach their budget of tokens in two iterations."""
    return new_run(workdir, iterations=2, select={"token_budget": 1000}, **changes)


def on_slurm(run: Run, granularity: str = "stage", warm: bool = False, **resources: dict[str, Any]) -> ClusterRun:
    """The same run on Slurm. warm: see `ClusterRun`. resources: `set-resources` of its profile, by rule."""
    config = yaml.safe_load(run.config.read_text())
    run.config.write_text(yaml.safe_dump({**config, "granularity": granularity}, sort_keys=False))
    fields = {field.name: getattr(run, field.name) for field in dataclasses.fields(Run)}
    return ClusterRun(**fields, profile=profile_of_the_tests(run.workdir / "profile", **resources), warm=warm)


def results_of(run: Run) -> dict[str, Any]:
    """Every table, policy and manifest of a run, and its summary without times, by relative path."""
    summary = json.loads((run.results / "summary.json").read_text(), object_hook=_without_times)
    return {**tables_and_policies(run.results), "summary.json": summary}


def _without_times(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if "second" not in key}


def assert_same_results(found: Run, expected: Run) -> None:
    """The same files with the same bytes."""
    have, want = results_of(found), results_of(expected)
    assert have.keys() == want.keys()
    assert [name for name in want if have[name] != want[name]] == []


def cli(run: Run, *words: str) -> Finished:
    """`extra`, in the working directory of a run."""
    program = [sys.executable, "-m", "extra_cli.main", *words]
    variables = environment() | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(program, cwd=run.workdir, env=variables, text=True, capture_output=True, check=False)


def marker_of(run: Run, cell: str) -> dict[str, Any]:
    """What the job of an arm and seed writes at its end."""
    marker: dict[str, Any] = json.loads((run.results / cell / "cell.json").read_text())
    return marker
