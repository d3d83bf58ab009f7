"""Several initial policies and regimes: the start of each run, and its folder."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import polars as pl
import pytest
import yaml

from extra_rl.config.files import read_yaml
from tests.conftest import Run, copy_of, new_run

pytestmark = pytest.mark.slow

SHAPE = {"hidden": 16, "layers": 1, "heads": 1, "kv_heads": 1, "head_dim": 16, "intermediate": 16}


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = new_run(
        tmp_path_factory.mktemp("grid"),
        granularity="iteration",
        iterations=1,
        seeds=[3, 4, 5],
        warm_starts=[0, 7],
        model={"source": "new", "shape": SHAPE},
        warm_start={"steps": 4, "stop_at": 4, "warmup": 2, "level_weights": {"L1": 1}},
        select={"token_budget": None, "prompts": 2, "level_weights": {}},
        generate={"group_size": 2},
        sampling={"max_response_tokens": 16},
        evaluate={"samples": 4, "max_response_tokens": 8},
        regimes={
            "easy": {"value": 10, "select": {"level_weights": {"L1": 1}}},
            "hard": {"value": 90, "select": {"level_weights": {"L6": 1}}},
        },
    )
    config = read_yaml(run.config) | {"arms": {"grpo": {}}}
    run.config.write_text(yaml.safe_dump(config, sort_keys=False))
    run.snakemake()
    return run


def started_from(run: Run, arm: str, seed: int) -> str:
    record = json.loads((run.results / arm / f"s{seed}" / "iteration_0000" / "update.run.json").read_text())
    assert record["inputs"]["initial"] == record["inputs"]["policy"]
    return Path(record["inputs"]["policy"]).parts[-3]


def test_seeds_take_the_initial_policies_in_turn(grid: Run) -> None:
    found = {seed: {started_from(grid, arm, seed) for arm in ("easy-grpo", "hard-grpo")} for seed in (3, 4, 5)}
    assert found == {3: {"warm_start"}, 4: {"warm_start_7"}, 5: {"warm_start"}}


def test_initial_policies_differ_by_their_seed_alone(grid: Run) -> None:
    weights = [grid.results / start / "policy" / "model.safetensors" for start in ("warm_start", "warm_start_7")]
    assert weights[0].read_bytes() != weights[1].read_bytes()
    jobs = [json.loads((path.parents[1] / "warm_start.run.json").read_text())["job"] for path in weights]
    first, other = (json.loads(job) for job in jobs)
    assert (first.pop("seed"), other.pop("seed")) == (0, 7)
    assert first == other


def test_a_regime_decides_what_its_arms_are_trained_on(grid: Run) -> None:
    train = pl.read_parquet(grid.results / "prepare" / "train.parquet").select("problem_id", "benchmark")
    for regime, level in (("easy", "L1"), ("hard", "L6")):
        chosen = pl.read_parquet(grid.results / f"{regime}-grpo" / "s3" / "iteration_0000" / "select.parquet")
        assert chosen.join(train, on="problem_id")["benchmark"].unique().to_list() == [level]


def test_other_initial_policies_are_refused_where_snakemake_has_no_records(grid: Run, tmp_path: Path) -> None:
    run = copy_of(grid, tmp_path / "moved")
    shutil.rmtree(run.workdir / ".snakemake")
    config = read_yaml(run.config) | {"seeds": [4, 3, 5]}
    run.config.write_text(yaml.safe_dump(config, sort_keys=False))
    for days, folder in ((3, "prepare"), (2, "warm_start"), (2, "warm_start_7")):  # no time tells anything
        for path in (run.results / folder).rglob("*"):
            age = days - (path.stem.startswith("evaluate"))
            os.utime(path, (time.time() - age * 86400,) * 2)
    done = run.snakemake("-n", check=False)
    assert done.returncode == 2
    for seed, made, now in ((3, "s0/policy", "s7/policy"), (4, "s7/policy", "s0/policy")):
        assert f"made from the initial policy {made}, now {now}" in done.stderr
        assert f"easy-grpo/s{seed}/iteration_0000/" in done.stderr
    assert "easy-grpo/s5/" not in done.stderr


def test_the_comparison_has_every_cell_and_every_start(grid: Run) -> None:
    table = pl.read_parquet(grid.results / "compare.parquet")
    assert set(table["policy"]) == {"warm_start", "warm_start_7", "easy-grpo", "hard-grpo"}
