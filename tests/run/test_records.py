"""Run records: the seconds of each stage on the line of an iteration."""

from __future__ import annotations

import json
from pathlib import Path

from extra_rl.run.records import seconds_of_iteration


def record(path: Path, **what: object) -> None:
    path.parent.mkdir(exist_ok=True)
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
