"""Samples on from the prefixes that were chosen in this iteration (`when: same_iteration`).

READS   choose_prefixes, policy
ADDS    regenerate: the continuations, whole responses with their lineage; empty where prefixes wait for the next batch
SOURCE  entropy-guided prefix regeneration (docs/method.md 3)
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl
from pydantic import Field

from extra_rl.sampling.rollouts import continuation_plans, refuse_cut_distribution, roll_out
from extra_rl.sections import ComputeConfig, SamplingConfig
from extra_rl.stage import Context, Inputs, PolicyDirectory, Stage, StageConfig
from extra_rl.tables import contracts


class Config(StageConfig):
    """Nothing of its own: the prefixes say what to sample, `sampling` says how."""

    sampling: SamplingConfig = Field(description="shared section `sampling`")
    compute: ComputeConfig = Field(description="shared section `compute`")


STAGE = Stage(
    name="regenerate",
    version=2,
    reads={"choose_prefixes": contracts.Prefixes, "policy": PolicyDirectory},
    adds={"regenerate": contracts.Rollouts},
)


def run(inputs: Inputs, config: Config, context: Context) -> Mapping[str, pl.DataFrame]:
    """The rollouts table of the continuations."""
    refuse_cut_distribution(config.sampling)
    plans = continuation_plans(inputs["choose_prefixes"], "same_iteration", context.job.place)
    if not plans:
        return {"regenerate": contracts.Rollouts.create_empty()}
    progress = context.progress(len(plans), f"{context.job.place} regenerate: rollout")
    table = roll_out(plans, inputs.policy(), config.sampling, config.compute, context.seed(), progress.update)
    return {"regenerate": table}
