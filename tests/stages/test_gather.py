"""The shards of a sampling stage are joined; incomplete or mixed sets of files are refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from extra_rl.errors import ConfigError, InputError
from extra_rl.run.execute import execute, provenance
from extra_rl.run.stage import Job
from extra_rl.tables import contracts
from extra_rl.tables.files import read_provenance, read_table, write_table
from stages import gather, novelty
from tests.stages.rows import Row, tables_of

PARTS = {"0of2": [0, 3], "1of2": [1, 2]}


def shard(folder: Path, name: str, positions: list[int], label: str = "", **job: object) -> Path:
    """A table as `generate` writes it for a shard; the id of a rollout contains its position."""
    path = folder / f"generate_{name}.parquet"
    rows = [Row(f"extra/s0/i3/{i}/0", group_id=f"extra/s0/i3/{i}") for i in positions]
    table = tables_of(rows)["generate"].with_columns(position=pl.Series(positions, dtype=pl.Int64))
    made_by = {"stage": "generate", "version": 1, "seed": 0, "config": {}, "arm": "extra", "iteration": 3, **job}
    footer = provenance(Job(**made_by, shard=label or name), {})  # type: ignore[arg-type]
    write_table(table, path, contracts.RolloutsOfShard, footer)
    return path


def gathered(paths: Mapping[str, Path], out: Path) -> pl.DataFrame:
    job = Job("gather", gather.STAGE.version, seed=0, config={}, arm="extra", iteration=3)
    inputs = {f"shard:{name}": path for name, path in paths.items()}
    execute(gather.STAGE, gather.Config, gather.run, job, inputs, {"rollouts": out}, None)
    return read_table(out, contracts.Rollouts)


def test_shards_are_joined_in_the_order_of_the_plans(tmp_path: Path) -> None:
    paths = {name: shard(tmp_path, name, positions) for name, positions in PARTS.items()}
    table = gathered(dict(reversed(paths.items())), tmp_path / "generate.parquet")
    assert table["rollout_id"].to_list() == [f"extra/s0/i3/{i}/0" for i in range(4)]
    assert table.columns == list(contracts.Rollouts.columns())
    assert read_provenance(tmp_path / "generate.parquet")["name"] == "extra/s0/i3/generate"


def test_shards_may_be_empty(tmp_path: Path) -> None:
    paths = {name: shard(tmp_path, name, [0, 1] if name == "1of3" else []) for name in ("0of3", "1of3", "2of3")}
    assert len(gathered(paths, tmp_path / "generate.parquet")) == 2


@pytest.mark.parametrize(
    ("parts", "changes", "message"),
    [
        ({"0of2": [0, 3]}, {}, "received the shards 0of2; pass all shards of one count"),
        ({"0of2": [0, 3], "1of2": [1, 2], "0of1": [4]}, {}, "pass all shards of one count"),
        ({"0of2": [0, 3], "1of2": [1]}, {}, "a rollout is missing or occurs twice"),
        (PARTS, {"label": "0of2"}, r"generate_1of2.parquet is not shard 1of2 .* \(its job: shard 0of2"),
        (PARTS, {"config": {"group_size": 4}}, r"generate_1of2.parquet is not shard 1of2 of the call"),
        (PARTS, {"stage": "regenerate"}, r"its job: shard 1of2, regenerate of "),
        (PARTS, {"iteration": 2}, r"'iteration': 2"),
        (PARTS, {"iteration": 2, "all": True}, r"generate_0of2.parquet .*'iteration': 2"),
    ],
)
def test_shards_that_are_incomplete_or_of_other_calls_are_refused(
    tmp_path: Path, parts: dict[str, list[int]], changes: dict[str, Any], message: str
) -> None:
    """changes: of the job of the second shard, or of all."""
    paths, changed = {}, {key: value for key, value in changes.items() if key != "all"}
    for name, positions in parts.items():
        paths[name] = shard(tmp_path, name, positions, **(changed if name == "1of2" or "all" in changes else {}))
    with pytest.raises(InputError, match=message):
        gathered(paths, tmp_path / "generate.parquet")
    assert not (tmp_path / "generate.parquet").exists()


def test_only_a_job_of_a_shard_names_it() -> None:
    job = Job("generate", 1, seed=0, config={})
    assert "shard" not in job.to_json()
    assert Job.from_json(Job("generate", 1, 0, {}, shard="0of2").to_json()).shard == "0of2"
    assert Job("generate", 1, 0, {}, "extra", 3, "0of2").title == "extra/s0/i3 generate 0of2"


def test_other_stages_have_no_shards() -> None:
    with pytest.raises(ConfigError, match="stage novelty has no shards"):
        novelty.STAGE.written_by(Job("novelty", 1, 0, {}, shard="0of2"))
