"""The second judge in the workflow: part of `all` for the arms that name one, and no part of anything else."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import polars as pl
import pytest
import yaml

from extra_rl.config.files import read_yaml
from stages.experiment import experiment_of
from stages.layout import Layout
from tests.conftest import Run, copy_of


def audits(run: Run, **arms: object) -> list[str]:
    return Layout(experiment_of(read_yaml(run.config) | arms)).audits()


def test_no_judge_no_audit(mini_run: Run) -> None:
    assert audits(mini_run) == []


def test_an_arm_may_have_a_separate_judge(mini_run: Run) -> None:
    found = audits(mini_run, arms={"grpo": {}, "extra": {"audit": {"judge": "string"}}}, first_iteration=2)
    assert found == [f"results/mini/extra/s0/iteration_0002/audit_{of}.parquet" for of in ("generate", "regenerate")]


@pytest.mark.slow
def test_a_judge_is_added_to_a_finished_run_and_runs_nothing_else(mini_run: Run, tmp_path: Path) -> None:
    run = copy_of(mini_run, tmp_path / "copy")
    (run.workdir / "it's right.py").write_text(
        "import json, sys\n"
        "for row in map(json.loads, sys.stdin): print(json.dumps({'id': row['id'], 'verdict': 'right'}))\n"
    )
    judge = shlex.join([sys.executable, "it's right.py"])  # a path from the working directory, with a quote in it
    config = yaml.safe_load(run.config.read_text()) | {"audit": {"judge": judge}}
    run.config.write_text(yaml.safe_dump(config, sort_keys=False))
    before = {p: p.read_bytes() for p in run.results.rglob("*.parquet")}
    run.snakemake()
    files = sorted(run.results.rglob("audit_*.parquet"))
    assert len(files) == 2 * 3 * 2
    assert {p: p.read_bytes() for p in run.results.rglob("*.parquet") if p not in files} == before
    for file in files:
        verdicts = pl.read_parquet(file.with_name(file.name.replace("audit", "verify")))
        assert pl.read_parquet(file)["rollout_id"].to_list() == not_right(verdicts)
    assert "Nothing to be done" in (done := run.snakemake("--dry-run")).stdout + done.stderr


def not_right(verdicts: pl.DataFrame) -> list[str]:
    return verdicts.filter(pl.col("verdict") != "right")["rollout_id"].to_list()
