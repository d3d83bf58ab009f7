"""Samples the rollouts of an iteration: G for every selected problem, and the continuations that were queued.

READS   select, train (prompts), policy, previous_choose_prefixes (prefixes due in this iteration's batch)
ADDS    generate: token ids, sampler logprobs, lineage
SOURCE  GRPO's group of G rollouts (docs/method.md 1); `when: next_iteration` as in the released code (R): queued
        prefixes go into one batch with the fresh prompts, which costs no second, late sampling call
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl
from pydantic import Field

from extra_rl.sampling.rollouts import continuation_plans, fresh_plans, refuse_cut_distribution, roll_out
from extra_rl.sections import ComputeConfig, SamplingConfig
from extra_rl.stage import Context, Inputs, PolicyDirectory, Stage, StageConfig
from extra_rl.tables import contracts


class Config(StageConfig):
    """Size of a group; how tokens are sampled is the shared section `sampling`."""

    sampling: SamplingConfig = Field(description="shared section `sampling`")
    compute: ComputeConfig = Field(description="shared section `compute`")
    group_size: int = Field(8, ge=2, description="G: fresh rollouts per prompt")


STAGE = Stage(
    name="generate",
    version=2,
    reads={
        "select": contracts.Selection,
        "train": contracts.Problems,
        "policy": PolicyDirectory,
        "previous_choose_prefixes?": contracts.Prefixes,
    },
    adds={"generate": contracts.Rollouts},
)


def run(inputs: Inputs, config: Config, context: Context) -> Mapping[str, pl.DataFrame]:
    """The rollouts table: fresh groups first, then continuations. Empty once the token budget is spent."""
    refuse_cut_distribution(config.sampling)
    if inputs["select"].is_empty():
        return {"generate": contracts.Rollouts.create_empty()}
    plans = fresh_plans(inputs["select"], inputs["train"], config.group_size)
    plans += continuation_plans(inputs["previous_choose_prefixes"], "next_iteration", context.job.place)
    progress = context.progress(len(plans), f"{context.job.place} generate: rollout")
    table = roll_out(plans, inputs.policy(), config.sampling, config.compute, context.seed(), progress.update)
    return {"generate": table}
