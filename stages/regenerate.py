"""Samples continuations of the prefixes that were chosen in this iteration (`when: same_iteration`).

READS   choose_prefixes, policy
WRITES  regenerate: the continuations, as whole responses with their lineage; empty where prefixes are queued for the
        next iteration
SOURCE  entropy-guided prefix regeneration (docs/method.md 3)
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import polars as pl
from pydantic import Field

from extra_rl.config.section import StageConfig
from extra_rl.config.sections import ComputeConfig, SamplingConfig
from extra_rl.run.records import OPENING_SECONDS
from extra_rl.run.stage import Context, Inputs, PolicyDirectory, Stage
from extra_rl.sampling.rollouts import continuation_plans, open_roller, refuse_cut_distribution
from extra_rl.sampling.shards import positions_of
from extra_rl.tables import contracts


class Config(StageConfig):
    """No keys except the shared sections: the prefixes determine what is sampled, and `sampling` how."""

    sampling: SamplingConfig = Field(description="shared section `sampling`")
    compute: ComputeConfig = Field(description="shared section `compute`")


STAGE = Stage(
    name="regenerate",
    version=5,
    reads={"choose_prefixes": contracts.Prefixes, "policy": PolicyDirectory},
    writes={"regenerate": contracts.Rollouts},
    shards={"regenerate": contracts.RolloutsOfShard},
)


def run(inputs: Inputs, config: Config, context: Context) -> Mapping[str, pl.DataFrame]:
    """Return the rollouts table of the continuations."""
    refuse_cut_distribution(config.sampling)
    plans = continuation_plans(inputs["choose_prefixes"], "same_iteration", context.job.place)
    here = positions_of(plans, context.job.shard, config.sampling.max_response_tokens)
    if not here:  # the model need not be loaded
        return {"regenerate": contracts.RolloutsOfShard.create_empty()}
    mine = [plans[i] for i in here]
    started = time.monotonic()
    with open_roller(mine, inputs.policy(), config.sampling, config.compute, context.seed()) as roll:
        context.figures[OPENING_SECONDS] = time.monotonic() - started
        table = roll(mine, context.progress(len(mine), f"{context.job.title}: rollout").update)
    return {"regenerate": table.with_columns(position=pl.Series(here, dtype=pl.Int64))}
