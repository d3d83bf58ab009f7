"""An arm and seed in one process: the files of a run of single stages, what runs again, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
import yaml

from extra_rl.config.experiment import Experiment
from extra_rl.errors import ConfigError
from extra_rl.planning.counts import jobs
from extra_rl.tables import contracts
from extra_rl.tables.files import read_provenance, write_table
from stages import cell_process, cells
from stages.cell_process import Task, run_cell
from stages.experiment import experiment_of
from stages.pipeline import STEPS
from tests.conftest import ROOT, Run, copy_of, environment, new_run
from tests.workflow.processes import tables_and_policies

pytestmark = pytest.mark.slow

CELL = "extra/s0"
TASKS = 3 * len(STEPS) + 1
"""Stages of an arm and seed of three iterations, and the evaluation of the last one."""


@pytest.fixture(scope="module")
def begun(mini_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The problems and the evaluated initial policy of a run that has not iterated yet, with `one_process`."""
    run = copy_of(mini_run, tmp_path_factory.mktemp("one") / "begun")
    change(run, granularity="one_process")
    for arm in ("grpo", "extra"):
        subprocess.run(["rm", "-r", str(run.results / arm)], check=True)
    for path in [*run.results.glob("compare*"), run.results / "summary.json", run.results / "report.html"]:
        path.unlink()
    return run


@pytest.fixture(scope="module")
def whole(begun: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = copy_of(begun, tmp_path_factory.mktemp("one") / "whole")
    said = run.snakemake().stdout
    assert sum("/3 iterations" in line for line in said.splitlines()) == 6  # on the terminal: a line an iteration
    return run


@pytest.fixture
def here(whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A copy of the finished run that a test may change, as the working directory."""
    run = copy_of(whole, tmp_path / "here")
    monkeypatch.chdir(run.workdir)
    return run


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the tasks that ran; with the files as they are."""
    names: list[str] = []
    run = Task.run

    def recorded(task: Task) -> None:
        names.append(f"{task.job.iteration}/{next(iter(task.outputs.values())).stem}")
        run(task)

    monkeypatch.setattr(cell_process.Task, "run", recorded)
    return names


@pytest.fixture
def would_run(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the tasks that would run; none of them does."""
    names: list[str] = []
    monkeypatch.setattr(
        cell_process.Task,
        "run",
        lambda task: names.append(f"{task.job.iteration}/{next(iter(task.outputs.values())).stem}"),
    )
    return names


def change(run: Run, **keys: object) -> None:
    config = yaml.safe_load(run.config.read_text())
    run.config.write_text(yaml.safe_dump(config | keys, sort_keys=False))


def experiment(run: Run, **keys: Any) -> Experiment:
    return experiment_of(yaml.safe_load(run.config.read_text()) | keys)


def test_the_same_bytes_as_stage_by_stage(mini_run: Run, whole: Run) -> None:
    expected, found = tables_and_policies(mini_run.results), tables_and_policies(whole.results)
    assert expected.keys() == found.keys()
    assert [name for name in expected if expected[name] != found[name]] == []
    for pattern in ("*.run.json", "logs/*.log"):
        names = ({p.name for p in (run.results / CELL / "iteration_0001").glob(pattern)} for run in (mini_run, whole))
        assert next(names) == next(names) != set()


def test_a_finished_run_has_nothing_to_do_until_a_policy_is_lost(here: Run) -> None:
    def planned() -> str:
        done = here.snakemake("--dry-run", "--printshellcmds", "--workflow-profile", "none")
        return done.stdout + done.stderr

    assert "Nothing to be done" in planned()
    (here.results / CELL / "iteration_0001" / "policy" / "manifest.json").unlink()
    again = planned()
    assert again.count("--one-process") == 1
    assert "--arm extra --seed 0" in again


def test_the_plan_counts_the_jobs_of_snakemake(begun: Run) -> None:
    done = begun.snakemake("--dry-run", "--forceall", "--workflow-profile", "none")
    total = next(line for line in (done.stdout + done.stderr).splitlines() if line.startswith("total"))
    config = experiment(begun)
    assert jobs(config.run, config.arms) == int(total.split()[1]) == 2 + 6  # two cells, and what all arms share


def test_only_what_is_missing_is_made_again(here: Run, ran: list[str]) -> None:
    before = tables_and_policies(here.results)
    run_cell(experiment(here), "extra", 0)
    assert ran == []
    (here.results / CELL / "iteration_0001" / "verify_generate.parquet").unlink()
    (here.results / CELL / "iteration_0001" / "policy" / "manifest.json").unlink()
    (here.results / CELL / "iteration_0002" / "novelty.parquet").write_bytes(b"PAR1")
    run_cell(experiment(here), "extra", 0)
    assert ran == ["1/verify_generate", "1/update", "2/novelty"]
    assert tables_and_policies(here.results) == before


def test_a_changed_section_runs_from_the_first_stage_that_it_affects(
    here: Run, would_run: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run_cell(experiment(here, update={"learning_rate": 1e-4}), "extra", 0)
    assert would_run[:2] == ["0/update", "0/summarize"]
    assert len(would_run) == TASKS - 10
    assert "update.learning_rate: 0.0003, now 0.0001" in capsys.readouterr().err


def test_a_schedule_runs_from_its_iteration(here: Run, would_run: list[str]) -> None:
    run_cell(experiment(here, schedule=[{"from": 2, "update": {"learning_rate": 1e-4}}]), "extra", 0)
    assert would_run == ["2/update", "2/summarize", "2/evaluate"]


def test_other_problems_run_everything(here: Run, would_run: list[str]) -> None:
    path = here.results / "prepare" / "train.parquet"
    write_table(pl.read_parquet(path).reverse(), path, contracts.Problems, read_provenance(path))
    run_cell(experiment(here), "extra", 0)
    assert len(would_run) == TASKS


def test_a_longer_run_keeps_what_is_finished(here: Run, would_run: list[str]) -> None:
    run_cell(experiment(here, iterations=4, evaluate_every=2), "extra", 0)
    assert would_run == ["1/evaluate", *(f"3/{step.name}" for step in STEPS), "3/evaluate"]


def test_finished_iterations_before_the_window_may_be_gone(here: Run, would_run: list[str]) -> None:
    subprocess.run(["rm", "-r", str(here.results / CELL / "iteration_0000")], check=True)
    run_cell(experiment(here, first_iteration=1), "extra", 0)
    assert would_run == []


def test_a_table_of_another_arm_is_made_again(here: Run, would_run: list[str]) -> None:
    name = "s0/iteration_0001/select.parquet"
    (here.results / "extra" / name).write_bytes((here.results / "grpo" / name).read_bytes())
    run_cell(experiment(here), "extra", 0)
    assert would_run[0] == "1/select"


def test_the_outputs_of_an_earlier_job_are_gone_before_a_stage_starts(
    here: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def stop(*arguments: Any) -> None:
        seen.append(arguments[5]["update"].exists())
        raise ConfigError("stopped")

    monkeypatch.setattr(cell_process, "execute", stop)
    with pytest.raises(ConfigError, match="stopped"):
        run_cell(experiment(here, update={"learning_rate": 1e-4}), "extra", 0)
    assert seen == [False]


def test_each_stage_finds_the_random_generator_of_a_new_process(here: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[float] = []
    monkeypatch.setattr(cell_process.Task, "run", lambda task: drawn.append(float(torch.rand(()))))
    run_cell(experiment(here, update={"learning_rate": 1e-4}), "extra", 0)
    assert len(drawn) > 2
    assert len(set(drawn)) == 1


def command(run: Run, settings: str) -> list[str]:
    words = ["--results", f"results/{run.results.name}", "--arm", "extra", "--seed", "0", "--last", "2"]
    configuration = f"results/{run.results.name}/configuration.yaml"
    return [*words, "--settings", settings, "--configuration", configuration, "--one-process"]


def test_a_killed_process_continues_with_the_unfinished_stage(
    begun: Run, whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ran: list[str]
) -> None:
    run = copy_of(begun, tmp_path / "killed")
    monkeypatch.chdir(run.workdir)
    for name in ("context.json", "configuration.yaml"):  # written before the first job
        (run.results / name).write_bytes((whole.results / name).read_bytes())
    words = command(run, cells.settings_of(experiment(run), "extra", 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "stages", "cell", *words], env=environment() | {"PYTHONPATH": str(ROOT)}
    )
    last = run.results / CELL / "iteration_0001" / "generate.parquet"
    deadline = time.monotonic() + 300
    while not last.is_file():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (run.results / CELL / "cell.json").exists()
    cells.main(words)
    assert 20 < len(ran) + len(STEPS) + 2 <= TASKS  # those of iteration 0 and two of iteration 1 were finished
    assert ran[-1] == "2/evaluate"
    expected = {name: data for name, data in tables_and_policies(whole.results).items() if name.startswith(CELL)}
    found = {name: data for name, data in tables_and_policies(run.results).items() if name.startswith(CELL)}
    assert found == expected
    mark = run.results / CELL / "cell.json"
    assert json.loads(mark.read_text()) == json.loads((whole.results / CELL / "cell.json").read_text())


def test_a_job_of_another_configuration_is_refused(here: Run) -> None:
    with pytest.raises(ConfigError, match=r"the settings of extra/s0 have changed since this job was planned"):
        cells.main(command(here, "0" * 64))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"generation": {"shards": 2}}, r"generation.shards: 2.*granularity: stage"),
        ({"tracking": ["jsonl"]}, r"tracking.to: jsonl.*granularity: iteration"),
        ({"report": {"every": 1}}, r"report.every: 1.*granularity: iteration"),
        ({"report": {"every": 1}, "tracking": ["jsonl"]}, r"tracking.to: jsonl; report.every: 1. Remove them"),
        ({"audit": {"judge": "string"}}, r"audit.judge: .*granularity: iteration"),
    ],
)
def test_what_needs_further_jobs_is_refused(tmp_path: Path, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        experiment(new_run(tmp_path, granularity="one_process", **keys))
