"""`extra plan --gpus`: text, JSON, options, errors, and the time that a large grid takes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from extra_cli.main import main
from tests.conftest import ROOT
from tests.planning.test_makespan import SECONDS
from tests.planning.test_rate import iteration
from tests.planning.test_stage_times import record, rollouts

TINY = ROOT / "config" / "tiny.yaml"
SHORT = ["--config", "iterations=2", "seeds=[0, 1]", "select={compute_budget: null}"]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """One iteration of both arms; only `extra` has continuations."""
    run = tmp_path / "results" / "tiny"
    for arm, continued in (("grpo", 0), ("extra", 24)):
        folder = iteration(run / arm / "s0" / "iteration_0000", SECONDS, 0)
        rollouts(folder, "generate", [10] * 192)
        rollouts(folder, "regenerate", [10] * continued)
    record(run / "prepare/train.run.json", 2.0)
    record(run / "warm_start/warm_start.run.json", 10.0)
    record(run / "warm_start/evaluate.run.json", 5.0)
    rollouts(run / "warm_start", "evaluate", [10] * 9216)
    return run


def planned(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["plan", *arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)["makespan"]
    return found


def test_a_cluster(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = planned(capsys, str(TINY), *SHORT, "--from", str(results), "--nodes", "2", "--gpus", "4")
    assert (found["nodes"], found["gpus_per_node"], found["cells"], found["granularity"]) == (2, 4, 4, "stage")
    assert found["measured"] == {"source": str(results), "iterations": 2}
    assert found["profile"].endswith("workflow/profiles/slurm/config.yaml")
    assert [row["gpus"] for row in found["scaling"]] == [1, 2, 4, 8]
    assert max(found["lower_bounds"].values()) <= found["seconds"] == found["scaling"][-1]["seconds"]
    assert found["stages"]["evaluate"]["gpu_seconds"] == pytest.approx(5 * 5.0)
    assert main(["plan", str(TINY), *SHORT, "--from", str(results), "--nodes", "2", "--gpus", "4"]) == 0
    printed = capsys.readouterr().out
    assert "makespan on 2 node(s) x 4 GPU(s): " in printed
    assert "Advice: " in printed
    assert f"2 measured iteration(s) of {results}" in " ".join(printed.split())
    assert max(len(line) for line in printed.splitlines() if str(results) not in line) < 140


def test_options_reach_the_simulation(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = [str(TINY), *SHORT, "--from", str(results), "--gpus", "4"]
    plain = planned(capsys, *common)
    assert plain["jobs"] == 2 * 2 * (2 * 12 + 1) + 5
    groups = planned(capsys, *common, "--granularity", "group")
    assert groups["jobs"] == 2 * 2 * (2 * 4 + 1) + 5
    assert planned(capsys, *common, "--granularity", "run")["jobs"] == 2 * 2 + 5
    assert planned(capsys, *common, "--job-seconds", "60")["seconds"] > plain["seconds"] + 20 * 60
    assert planned(capsys, *common, "--start-seconds", "60")["seconds"] > plain["seconds"] + 20 * 60
    assert planned(capsys, *common, "--cores", "1")["seconds"] > plain["seconds"]
    profile = tmp_path / "mine.yaml"
    profile.write_text("set-resources: {update: {gpu: 2}}")
    mine = planned(capsys, *common, "--profile", str(profile))
    assert {name for name, stage in mine["stages"].items() if stage["gpu_seconds"]} == {"update"}
    assert mine["stages"]["update"]["gpu_seconds"] == 2 * mine["stages"]["update"]["seconds"]


def test_the_granularity_of_the_configuration_is_the_default(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--config", *SHORT[1:], "granularity=iteration", "--from", str(results), "--gpus", "1"]
    assert planned(capsys, str(TINY), *words)["jobs"] == 2 * 2 * (2 + 1) + 5
    assert planned(capsys, str(TINY), *words, "--granularity", "stage")["granularity"] == "stage"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--gpus", "0"], "--gpus 0: expected at least 1"),
        (["--nodes", "0", "--gpus", "1"], "--nodes 0: expected at least 1"),
        (["--gpus", "1", "--cores", "0"], "--cores 0: expected at least 1"),
        (["--nodes", "2"], "--nodes: also give --gpus"),
        (["--job-seconds", "2"], "--job-seconds: also give --gpus"),
        (["--gpus", "1", "--granularity", "job"], "granularity 'job': unknown"),
        (["--gpus", "1", "--profile", "none.yaml"], "none.yaml: no such configuration file"),
        (
            ["--gpus", "2", "--config", "sampling={backend: vllm, engine: {tensor_parallel: 4}}"],
            "needs 4 GPU(s) on each of 1 node(s)",
        ),
    ],
)
def test_bad_input_is_one_error(results: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(TINY), "--from", str(results), *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


def test_without_measurements_there_is_one_error(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(TINY), "--gpus", "2"]) == 2
    assert "--gpus: also give --from RESULTS" in capsys.readouterr().err
    for place in (results / "extra", results / "grpo"):
        (place / "s0/iteration_0000/novelty.run.json").unlink()
    assert main(["plan", str(TINY), "--from", str(results), "--gpus", "2"]) == 2
    assert "has a time of the stage novelty" in capsys.readouterr().err


def test_a_grid_of_hundreds_of_thousands_of_jobs_takes_seconds(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """12 arms x 12 seeds x 100 iterations x 4 shards; CPU-seconds, because the machine may do other work."""
    large = yaml.safe_load(TINY.read_text())
    large |= {"iterations": 100, "seeds": list(range(12)), "generation": {"shards": 4}}
    large["arms"] = {f"a{number}": {"preset": "regeneration"} for number in range(12)}
    large["select"]["token_budget"] = None
    path = tmp_path / "large.yaml"
    path.write_text(yaml.safe_dump(large))
    before = time.process_time()
    found = planned(capsys, str(path), "--from", str(results), "--nodes", "8", "--gpus", "8")
    assert found["jobs"] == 12 * 12 * (100 * 20 + 1) + 5
    assert time.process_time() - before < 30


def test_a_makespan_needs_neither_torch_nor_transformers(results: Path) -> None:
    code = (
        "import sys; from extra_cli.main import main; "
        "assert main(['plan', sys.argv[1], '--from', sys.argv[2], '--gpus', '2', '--json']) == 0; "
        "assert not {'torch', 'transformers', 'datasets', 'huggingface_hub', 'snakemake'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code, str(TINY), str(results)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
