"""Joins the shards of `generate` or `regenerate`; part of a run only where `generation.shards` is above 1.

READS   shard:0of4, shard:1of4, ... (the rollouts of each, with their positions in the whole table)
WRITES  rollouts: the table that an unsharded run would have written, in the same order
SOURCE  our decision (docs/decisions/0009-shards.md)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from extra_rl.config.section import StageConfig
from extra_rl.errors import InputError
from extra_rl.run.stage import Context, Inputs, Job, Stage
from extra_rl.sampling.shards import parse_shard, shard_names
from extra_rl.tables import contracts
from extra_rl.tables.files import read_provenance


class Config(StageConfig):
    """No keys: the inputs determine the number of shards."""


STAGE = Stage(
    name="gather",
    version=1,
    reads={"shard*": contracts.RolloutsOfShard},
    writes={"rollouts": contracts.Rollouts},
)


def run(inputs: Inputs, config: Config, context: Context) -> Mapping[str, pl.DataFrame]:
    """Return the rollouts of all shards, in the order of the plans; InputError where the shards are incomplete."""
    shards = inputs.labelled("shard")
    paths = {name: inputs.paths[f"shard:{name}"] for name in shards}
    require_all_shards(list(shards))
    require_one_call(paths, context.job)
    table = pl.concat(list(shards.values())).sort("position")
    if table["position"].to_list() != list(range(len(table))):
        folder = next(iter(paths.values())).parent
        raise InputError(
            f"{folder}: in the shards {', '.join(shards)} a rollout is missing or occurs twice. Delete them and run "
            "again; snakemake rebuilds them."
        )
    return {"rollouts": table.drop("position")}


def require_all_shards(names: list[str]) -> None:
    """Raise InputError unless the names are those of all shards of one count."""
    counts = {parse_shard(name)[1] for name in names}
    if len(counts) != 1 or sorted(names) != sorted(shard_names(*counts)):
        raise InputError(f"gather received the shards {', '.join(names) or '(none)'}; pass all shards of one count.")


def require_one_call(paths: Mapping[str, Path], job: Job) -> None:
    """Raise InputError unless every file is the shard of its name, and all belong to one call of one stage."""
    first: dict[str, Any] = {}
    for name, path in paths.items():
        made_by: dict[str, Any] = dict(read_provenance(path).get("job", {}))
        shard = made_by.pop("shard", "none")
        where = {key: made_by.get(key) for key in ("arm", "seed", "iteration")}
        first = first or made_by
        if shard != name or made_by != first or where != {key: getattr(job, key) for key in where}:
            raise InputError(
                f"{path} is not shard {name} of the call that the other shards belong to (its job: shard {shard}, "
                f"{made_by.get('stage')} of {where}). Delete it and run again; snakemake rebuilds it."
            )
