"""All stages of an iteration in one process: the files of a run of single stages, and the same wiring."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from extra_rl.config.derived import derive
from extra_rl.errors import ConfigError
from stages.experiment import experiment_of
from stages.pipeline import STEPS, inputs_of, outputs_of, unread
from tests.conftest import Run, new_run

pytestmark = pytest.mark.slow

CHEAP = {
    "choose_prefixes": {"scores_from": "sampler", "cut": "before_peak_surprisal", "rank": "low_mean_surprisal"},
    "score_entropy": {"rows": "signal"},
    "advantage": {"group": "joined"},
}
"""The choice of prefixes reads no scores; scoring reads verdicts and parents."""
REPLAY = {
    "choose_prefixes": {
        "rank": "calibrated",
        "action": "cheapest",
        "replay": {"rows": 2, "source": "demonstrations"},
    }
}
"""The choice of prefixes reads problems, all of its state, and the continuations of the previous iteration."""
MADE = ("*.parquet", "*.safetensors", "manifest.json", "summary.json")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = new_run(tmp_path_factory.mktemp("whole"), granularity="iteration")
    run.snakemake()
    return run


def made(run: Run) -> dict[str, bytes]:
    files = {path for pattern in MADE for path in run.results.rglob(pattern) if path.name != "summary.json"}
    return {str(path.relative_to(run.results)): path.read_bytes() for path in files}


def test_the_same_bytes_as_stage_by_stage(mini_run: Run, whole: Run) -> None:
    expected, found = made(mini_run), made(whole)
    assert expected.keys() == found.keys()
    assert [name for name in expected if expected[name] != found[name]] == []
    assert sum(name.endswith("safetensors") for name in expected) > 4


def test_every_stage_keeps_its_own_record_and_log(mini_run: Run, whole: Run) -> None:
    place = "extra/s0/iteration_0001"
    for pattern in ("*.run.json", "logs/*.log"):
        expected, found = ({p.name for p in (run.results / place).glob(pattern)} for run in (mini_run, whole))
        assert expected == found
    used = [json.loads(path.read_text())["cpu_s"] for path in (whole.results / place).glob("*.run.json")]
    assert 0 < min(used) < 0.5 < sum(used)  # each its own, none the sum of those before it


def test_nothing_is_left_to_do(whole: Run) -> None:
    assert "Nothing to be done" in (done := whole.snakemake("--dry-run")).stdout + done.stderr


def test_a_deleted_policy_re_runs_its_whole_iteration(whole: Run) -> None:
    lost = whole.results / "grpo/s0/iteration_0002/policy/manifest.json"
    before = made(whole)
    lost.unlink()
    said = whole.snakemake("--dry-run", "--printshellcmds", "--workflow-profile", "none")
    assert (said.stdout + said.stderr).count("python -m stages iteration") == 1
    whole.snakemake()
    assert made(whole) == before


CREDIT: dict[str, Any] = {
    "score_entropy": {"rows": "signal"},
    "choose_prefixes": {"scores_from": "sampler", "cut": "random", "rank": "random"},
    "advantage": {"group": "own", "credit": "segment", "zero_variance_weight": 0.1},
}


@pytest.mark.parametrize("changes", [{}, CHEAP, REPLAY, CREDIT], ids=["default", "cheap", "replay", "credit"])
def test_the_files_of_each_stage_are_those_of_the_rules(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Compare the commands of a dry run, stage by stage, with the files of the one process."""
    run = new_run(tmp_path, arms={"extra": {"preset": "prototype", **changes}})
    experiment = experiment_of(yaml.safe_load(run.config.read_text()))
    arm = "results/mini/extra/s0"
    profile = ("--workflow-profile", "none")
    done = run.snakemake("--dry-run", "--printshellcmds", *profile, f"{arm}/iteration_0001/summarize.parquet")
    said = done.stdout + done.stderr
    started = {}
    for line in said.splitlines():
        words = shlex.split(line) if "python -m stages" in line else []
        if words:
            log = words[words.index("--log") + 1]
            start, middle, end = (words.index(word) for word in ("--input", "--output", "--log"))
            started[log] = (set(words[start + 1 : middle]), set(words[middle + 1 : end]))
    for iteration, previous in ((0, ""), (1, f"{arm}/iteration_0000")):
        here = f"{arm}/iteration_{iteration:04d}"
        initial = "results/mini/warm_start/policy/manifest.json"
        given = {
            "previous_policy": initial if previous else "",
            "train": "results/mini/prepare/train.parquet",
            "policy": f"{previous}/policy/manifest.json" if previous else initial,
            "initial": initial,
        }
        for step in STEPS:
            derived = derive(experiment, step.stage, "extra")
            leave_out = unread(step.stage, experiment.arms["extra"][step.stage], derived)
            found = inputs_of(step, given, here, previous, leave_out)
            words, outputs = started.pop(f"{here}/logs/{step.name}.log")
            assert words == {f"{r}={p}" for r, p in found.items() if p}
            assert outputs == {f"{r}={p}" for r, p in outputs_of(step, here).items()}
    assert {Path(log).stem for log in started} == {"prepare", "warm_start"}


def test_shards_are_refused_with_granularity_iteration() -> None:
    with pytest.raises(ConfigError, match="granularity: stage"):
        experiment_of({"name": "x", "iterations": 1, "granularity": "iteration", "generation": {"shards": 2}})
