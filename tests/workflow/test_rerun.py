"""What a changed configuration re-runs and what it does not, from dry runs of a finished run."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from extra_rl.run.context import CONTEXT_FILE, Horizon, RunContext
from tests.conftest import Run, copy_of, new_run

ITERATIONS = 3
FROM_ADVANTAGE = {"advantage", "update", "policy/manifest", "summarize", "summarize_state"}
BEFORE_ADVANTAGE = {
    *("select", "generate", "verify_generate", "score_entropy_generate", "choose_prefixes", "choose_prefixes_pool"),
    *("choose_prefixes_bank", "choose_prefixes_branches", "choose_prefixes_groups"),
    *("regenerate", "verify_regenerate", "score_entropy_regenerate", "novelty", "novelty_memory"),
}
EVALUATED = {"evaluate", "evaluate_figures"}
AN_ITERATION = BEFORE_ADVANTAGE | FROM_ADVANTAGE


@pytest.fixture
def run(mini_run: Run, tmp_path: Path) -> Run:
    return copy_of(mini_run, tmp_path / "run")


def reconfigure(run: Run, **changes: Any) -> None:
    """Replaces whole top-level keys of the run's configuration."""
    config = yaml.safe_load(run.config.read_text()) | changes
    run.config.write_text(yaml.safe_dump(config, sort_keys=False))


def planned(run: Run, **changes: Any) -> set[str]:
    """Outputs of the jobs of a dry run under the changed configuration, without the run's folder and suffix."""
    reconfigure(run, **changes)
    said = run.snakemake("--dry-run", "--quiet", "host").stdout
    outputs = re.findall(r"^    output: (.*)$", said, flags=re.MULTILINE)
    assert outputs or "Nothing to be done" in said
    return {path.removeprefix("results/mini/").rsplit(".", 1)[0] for line in outputs for path in line.split(", ")}


def files(arm: str, iteration: int, names: set[str]) -> set[str]:
    return {f"{arm}/s0/iteration_{iteration:04d}/{name}" for name in names}


def arms(**extra: Any) -> dict[str, Any]:
    return {"grpo": {}, "extra": {"preset": "prototype", **extra}}


COMPARED = {"compare", "compare_seeds", "compare_differences", "summary", "report"}


def test_a_new_weight_reruns_advantage_and_what_follows(run: Run) -> None:
    assert planned(run, arms=arms(advantage={"weight": 0.3})) == {
        *files("extra", 0, FROM_ADVANTAGE),
        *files("extra", 1, AN_ITERATION),
        *files("extra", 2, AN_ITERATION | EVALUATED),
        *COMPARED,
    }


def test_iterations_before_the_window_are_not_checked(run: Run) -> None:
    (run.results / "grpo" / "s0" / "iteration_0000" / "generate.parquet").unlink()
    assert planned(run, arms=arms(advantage={"weight": 0.3}), first_iteration=2) == {
        *files("extra", 2, FROM_ADVANTAGE | EVALUATED),
        *COMPARED,
    }


def test_a_state_table_that_an_earlier_version_did_not_write_reruns_nothing(run: Run) -> None:
    for path in run.results.rglob("choose_prefixes_groups.parquet"):
        path.unlink()
    assert planned(run) == set()


def test_more_evaluation_samples_rerun_evaluations_only(run: Run) -> None:
    assert planned(run, evaluate={"samples": 8}) == {
        *(f"warm_start/{name}" for name in EVALUATED),
        *files("grpo", 2, EVALUATED),
        *files("extra", 2, EVALUATED),
        *COMPARED,
    }


def test_other_keys_of_the_run_rerun_none_and_a_dry_run_writes_nothing(run: Run) -> None:
    """They are in the context of the run, which a dry run leaves as it is."""
    context = run.results / CONTEXT_FILE
    before = context.read_bytes()
    assert RunContext.read(context).horizon == Horizon(ITERATIONS, 1400, 0.0)
    changes = {"on_mismatch": "warn", "stop_without_signal": 9, "retention": {"weights_every": 2}}
    assert planned(run, **changes) == set()
    assert context.read_bytes() == before
    context.unlink()
    assert planned(run) == set()
    assert not context.exists()


def test_more_iterations_rerun_none(run: Run) -> None:
    new = files("grpo", 3, AN_ITERATION | EVALUATED) | files("extra", 3, AN_ITERATION | EVALUATED)
    assert planned(run, iterations=ITERATIONS + 1) == new | COMPARED


def test_another_arm_reruns_none(run: Run) -> None:
    assert planned(run, arms=arms() | {"dr_grpo": {"advantage": {"divide_by_std": False}}}) == {
        *(name for i in range(ITERATIONS) for name in files("dr_grpo", i, AN_ITERATION)),
        *files("dr_grpo", 2, EVALUATED),
        *COMPARED,
    }


def test_touched_files_and_reordered_keys_rerun_nothing(run: Run) -> None:
    for path in (*run.results.rglob("*.parquet"), *run.results.rglob("manifest.json")):
        path.touch()
    sections = yaml.safe_load(run.config.read_text())
    reordered = {key: sections[key] for key in reversed(sections)}
    run.config.write_text(yaml.safe_dump(reordered, sort_keys=False))
    assert planned(run) == set()


def test_a_dry_run_of_a_thousand_iterations_builds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = new_run(tmp_path, iterations=1000)
    reconfigure(run, arms={"extra": {"preset": "prototype"}})
    begin = time.monotonic()
    said = run.snakemake("--dry-run", "--quiet", "rules", "progress").stdout  # builds the DAG, prints no jobs
    with capsys.disabled():
        print(f"\ndry-run of 1,000 iterations, one arm, 14,006 jobs: {time.monotonic() - begin:.0f} s")
    assert said.rstrip().endswith("Building DAG of jobs...")


def test_a_window_keeps_a_long_run_fast(tmp_path: Path) -> None:
    """990 finished iterations are source files, not jobs: only the tables of the last of them are needed."""
    run = new_run(tmp_path, iterations=1000, first_iteration=990)
    for arm in ("grpo", "extra"):
        former = run.results / arm / "s0" / "iteration_0989"
        (former / "policy").mkdir(parents=True)
        (former / "policy" / "manifest.json").touch()
        for name in AN_ITERATION - {"policy/manifest"}:
            (former / f"{name}.parquet").touch()
    made = {path for path in planned(run) if path.startswith("extra/")}
    assert made == {
        *(name for i in range(990, 1000) for name in files("extra", i, AN_ITERATION)),
        *files("extra", 999, EVALUATED),
    }
