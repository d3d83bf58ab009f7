"""Run records: the seconds of each stage on the line of an iteration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from extra_rl.run.records import kind_of_seconds, seconds_of_iteration, training_cost


def record(path: Path, **what: object) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(json.dumps(what))


def test_a_sharded_stage_took_as_long_as_its_slowest_shard(tmp_path: Path) -> None:
    by_hand = {"rollouts": "results/x/shards/generate_0of2.parquet"}
    record(tmp_path / "verify_generate.run.json", stage="verify", inputs=by_hand, wall_s=2.0, figures={})
    inputs = {f"shard:{i}of2": f"results/x/shards/generate_{i}of2.parquet" for i in range(2)}
    record(tmp_path / "generate.run.json", stage="gather", inputs=inputs, wall_s=0.1, figures={})
    for name, seconds in (("0of2", 5.0), ("1of2", 4.0), ("0of3", 9.0)):  # 0of3: of another number of shards
        path = tmp_path / "shards" / f"generate_{name}.run.json"
        record(path, stage="generate", inputs={}, wall_s=seconds, figures={})
    assert seconds_of_iteration(tmp_path) == {"generate": 5.0, "verify_generate": 2.0}


def test_training_costs_the_stages_of_all_iterations_without_evaluations(tmp_path: Path) -> None:
    """Wall seconds 1, 2, 4 of training with shards, 8 and 16 of measuring, 32 of a warm start elsewhere."""
    run = tmp_path / "grpo" / "s0"
    for seconds, (stage, path) in enumerate(
        (
            ("update", run / "iteration_0000" / "update.run.json"),
            ("generate", run / "iteration_0001" / "shards" / "generate_0of2.run.json"),
            ("generate", run / "iteration_0001" / "shards" / "generate_1of2.run.json"),
            ("evaluate", run / "iteration_0001" / "evaluate.run.json"),
            ("audit", run / "iteration_0001" / "audit.run.json"),
            ("warm_start", tmp_path / "warm_start" / "warm_start.run.json"),
        )
    ):
        record(path, stage=stage, wall_s=2.0**seconds, cpu_s=10 * 2.0**seconds, device_s=0.5 * 2.0**seconds)
    assert training_cost(run) == {"wall_seconds": 7.0, "compute_seconds": 70.0, "device_seconds": 3.5}
    record(run / "iteration_0001" / "verify.run.json", stage="verify", wall_s=1.0, cpu_s=1.0)  # of an earlier version
    assert training_cost(run) == {"wall_seconds": 8.0, "compute_seconds": 71.0, "device_seconds": None}


@pytest.mark.parametrize(
    ("held", "kind"),
    [
        ([0.0, 0.0], "compute_seconds"),
        ([0.0, 2.5], "device_seconds"),
        ([None, 2.5], "compute_seconds"),
        ([], "compute_seconds"),
    ],
    ids=["on a CPU", "on a device", "one not known", "nothing"],
)
def test_arms_are_compared_in_seconds_of_one_kind(held: list[float | None], kind: str) -> None:
    assert kind_of_seconds({"compute_seconds": 1.0, "device_seconds": seconds} for seconds in held) == kind
