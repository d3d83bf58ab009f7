"""Samples the rollouts of an iteration: G for every selected problem, and the continuations that were queued.

READS   select, train (prompts), policy, previous_choose_prefixes (prefixes due in this iteration's batch),
        previous_summarize_lengths (what the longest are, where they are to come first)
ADDS    generate: token ids, sampler logprobs, lineage
SOURCE  GRPO's group of G rollouts (docs/method.md 1); `when: next_iteration` as in the released code (R): queued
        prefixes go into one batch with the fresh prompts, which costs no second, late sampling call; over-sampling and
        dropping: docs/sampling.md
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import polars as pl
from pydantic import Field

from extra_rl.sampling.base import Limits
from extra_rl.sampling.rollouts import continuation_plans, fresh_plans, refuse_cut_distribution, roll_out
from extra_rl.sampling.shards import positions_of
from extra_rl.sampling.tail import TailClock, report_tail
from extra_rl.sections import ComputeConfig, SamplingConfig
from extra_rl.stage import Context, Inputs, PolicyDirectory, Stage, StageConfig
from extra_rl.tables import contracts


class Config(StageConfig):
    """Size of a group; how tokens are sampled is the shared section `sampling`."""

    sampling: SamplingConfig = Field(description="shared section `sampling`")
    compute: ComputeConfig = Field(description="shared section `compute`")
    group_size: int = Field(8, ge=2, description="G: fresh rollouts per prompt")
    oversample: float = Field(
        1.0,
        ge=1,
        description="so many times G are started per prompt; once as many rollouts have ended as without it, the rest "
        "is dropped (docs/sampling.md); 1: off",
    )


STAGE = Stage(
    name="generate",
    version=3,
    reads={
        "select": contracts.Selection,
        "train": contracts.Problems,
        "policy": PolicyDirectory,
        "previous_choose_prefixes?": contracts.Prefixes,
        "previous_summarize_lengths?": contracts.ResponseLengths,
    },
    adds={"generate": contracts.Rollouts},
    shards={"generate": contracts.RolloutsOfShard},
)


def run(inputs: Inputs, config: Config, context: Context) -> Mapping[str, pl.DataFrame]:
    """The rollouts table: fresh groups first, then continuations. Empty once the token budget is spent."""
    refuse_cut_distribution(config.sampling)
    if inputs["select"].is_empty():
        return {"generate": contracts.RolloutsOfShard.create_empty()}
    started = started_per_prompt(config)
    plans = fresh_plans(inputs["select"], inputs["train"], inputs["previous_summarize_lengths"], started)
    plans += continuation_plans(inputs["previous_choose_prefixes"], "next_iteration", context.job.place)
    extra = len(inputs["select"]) * (started - config.group_size)
    limits = Limits(ended=len(plans) - extra if extra else None, tokens=config.sampling.call_tokens)
    here = positions_of(plans, context.job.shard, config.sampling.max_response_tokens)
    limits = limits.part(len(here), len(plans))
    clock = TailClock(context.progress(len(here), f"{context.job.title}: rollout").update)
    mine = [plans[i] for i in here]
    table = roll_out(mine, inputs.policy(), config.sampling, config.compute, context.seed(), clock, limits)
    report_tail(clock, context, "rollouts")
    return {"generate": table.with_columns(position=pl.Series(here, dtype=pl.Int64))}


def started_per_prompt(config: Config) -> int:
    """G times `oversample`, rounded up; the small shift keeps 25 x 2.2 = 55.00000000000001 from becoming 56."""
    return math.ceil(config.group_size * config.oversample - 1e-9)
