"""A run that a check has ended: the message on the terminal, and its resumption by the same command."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.conftest import Run, new_run

pytestmark = pytest.mark.slow


def reconfigure(run: Run, **changes: object) -> None:
    config = yaml.safe_load(run.config.read_text()) | changes
    run.config.write_text(yaml.safe_dump(config, sort_keys=False))


def times(run: Run) -> dict[str, int]:
    return {str(path.relative_to(run.results)): path.stat().st_mtime_ns for path in run.results.rglob("*.parquet")}


def refused(run: Run) -> str:
    done = run.snakemake(check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert "Traceback" not in said
    return said


def test_an_ended_run_resumes_where_it_stopped(tmp_path: Path) -> None:
    """Problems that the policy never solves, and a tolerance that rounding exceeds."""
    select = {"prompts": 2, "level_weights": {"L1": 0, "L3": 0, "L4": 0, "L6": 1}, "token_budget": None}
    keys = {"mismatch_tolerance": 1e-12, "stop_without_signal": 1}
    run = new_run(tmp_path, iterations=2, **keys, select=select, generate={"group_size": 2}, arms={"grpo": {}})

    said = refused(run)
    generated = "results/mini/grpo/s0/iteration_0000/generate.parquet"
    assert f"score_entropy: NumericalError: {generated}: sampler and policy differ by " in said
    before = times(run)
    assert "grpo/s0/iteration_0000/generate.parquet" in before

    reconfigure(run, on_mismatch="warn")
    said = refused(run)
    assert f"WARNING: grpo/s0/i0 score_entropy: {generated}: sampler and policy differ by " in said
    assert "WARNING: sampler and policy differ" in said  # the iteration's own line
    assert "select: NoSignalError: grpo/s0: iteration 0 had no group to learn from (stop_without_signal: 1)." in said
    assert "Of 2 fresh groups, 0 were all correct and 2 all incorrect" in said
    after = times(run)
    assert after.items() >= before.items()
    assert not [name for name in after if "iteration_0001" in name]

    reconfigure(run, stop_without_signal=2)
    run.snakemake()
    assert times(run).items() >= after.items()
    assert (run.results / "report.html").is_file()
    reconfigure(run, on_mismatch="stop", mismatch_tolerance=0.5, stop_without_signal=None)
    assert "Nothing to be done" in run.snakemake("--dry-run").stdout
