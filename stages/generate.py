"""Samples the rollouts of an iteration: G for every selected problem, and the continuations that were queued.

With `source: demonstrations` the rollouts are worked solutions instead: the supervised control.

READS   select, train (prompts; answers, between rounds), policy, previous_choose_prefixes (prefixes due in this
        iteration's batch)
WRITES  generate: token ids, sampler logprobs, lineage
SOURCE  GRPO's group of G rollouts (docs/method.md 1); `when: next_iteration` as in the released code (R): queued
        prefixes are sampled in one batch with the fresh prompts, which saves a second sampling call; rounds:
        docs/sampling.md
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Literal

import polars as pl
from pydantic import Field, model_validator

from extra_rl.config.section import Section, StageConfig
from extra_rl.config.sections import ComputeConfig, SamplingConfig, TaskConfig, VerifierConfig
from extra_rl.errors import ConfigError
from extra_rl.judging.dispatch import user_code_of
from extra_rl.run.records import OPENING_SECONDS
from extra_rl.run.stage import Context, Inputs, PolicyDirectory, Stage
from extra_rl.sampling.rollouts import (
    Plan,
    continuation_plans,
    fresh_plans,
    open_roller,
    refuse_cut_distribution,
)
from extra_rl.sampling.rounds import further_rounds, mixed_groups
from extra_rl.sampling.shards import positions_of
from extra_rl.tables import contracts
from extra_rl.user_code import require_source


class Config(StageConfig):
    """Size and source of a group; the shared section `sampling` sets how tokens are sampled."""

    sampling: SamplingConfig = Field(description="shared section `sampling`")
    compute: ComputeConfig = Field(description="shared section `compute`")
    task: TaskConfig = Field(description="shared section `task`: its verifier judges between `rounds`")
    verifier: VerifierConfig = Field(description="shared section `verifier`: its limits, between `rounds`")
    group_size: int = Field(8, ge=2, description="G: fresh rollouts per prompt")
    source: Literal["policy", "demonstrations"] = Field(
        "policy",
        description="demonstrations: worked solutions instead of rollouts, all correct and with advantage 1; nothing "
        "is sampled (use `update.loss: supervised`)",
    )
    rounds: int = Field(
        1,
        ge=1,
        le=100,
        description="dynamic sampling (DAPO): maximum number of rounds; each samples as many new problems as are still "
        "missing for select.prompts groups that are neither all correct nor all incorrect (docs/sampling.md); 1: off",
    )

    @model_validator(mode="after")
    def demonstrations_come_in_one_round(self) -> Config:
        if self.source == "demonstrations" and self.rounds > 1:
            raise ValueError("source: demonstrations samples nothing: set rounds: 1")
        return self


class Derived(Section):
    """Values that follow from other sections."""

    judge_source: str = Field("", description="digest of the source text of a user's judge, for `rounds`")
    task_source: str = Field("", description="digest of the source text of a user's task, for demonstrations")
    weights: dict[str, float] = Field({}, description="verify.weights, for `rounds`")


STAGE = Stage(
    name="generate",
    version=5,
    reads={
        "select": contracts.Selection,
        "train": contracts.Problems,
        "policy": PolicyDirectory,
        "previous_choose_prefixes?": contracts.Prefixes,
    },
    writes={"generate": contracts.Rollouts},
    shards={"generate": contracts.RolloutsOfShard},
    derived=Derived,
)


def run(inputs: Inputs, config: Config, context: Context) -> Mapping[str, pl.DataFrame]:
    """Return the rollouts table: fresh groups, then continuations, then the groups of further rounds.

    It is empty once the token budget is spent.
    """
    refuse_cut_distribution(config.sampling)
    if config.rounds > 1 and context.job.shard:
        raise ConfigError(
            "a shard cannot know how many groups are missing overall: with generate.rounds > 1, set "
            "generation.shards: 1."
        )
    if inputs["select"].is_empty():
        return {"generate": contracts.RolloutsOfShard.create_empty()}
    require_source(user_code_of(config.task), context.derived.judge_source)
    require_source(config.task.name, context.derived.task_source)
    size = config.group_size
    fresh = fresh_plans(inputs["select"], inputs["train"], size)
    now = len(fresh) // config.rounds  # select has chosen the problems of all rounds
    plans = fresh[:now] + continuation_plans(inputs["previous_choose_prefixes"], "next_iteration", context.job.place)
    here = positions_of(plans, context.job.shard, config.sampling.max_response_tokens)
    if not here:  # a shard without a group need not load the model
        return {"generate": contracts.RolloutsOfShard.create_empty()}
    mine, spare = [plans[i] for i in here], fresh[now:]
    if config.source == "demonstrations":
        given = worked_solutions(mine, inputs, config, context)
        return {"generate": given.with_columns(position=pl.Series(here, dtype=pl.Int64))}
    started = time.monotonic()
    with open_roller([*mine, *spare], inputs.policy(), config.sampling, config.compute, context.seed()) as roll:
        context.figures[OPENING_SECONDS] = time.monotonic() - started
        table = roll(mine, context.progress(len(mine), f"{context.job.title}: rollout").update)
        if spare:

            def roll_further(number: int, missing: int, further: Sequence[Plan]) -> pl.DataFrame:
                title = f"{context.job.title}, round {number}"
                context.console.note(f"{title}: {missing} mixed group(s) missing, {len(further)} more rollouts")
                return roll(further, context.progress(len(further), f"{title}: rollout").update)

            table = further_rounds(
                table,
                [spare[i : i + size] for i in range(0, len(spare), size)],
                target=now // size,
                rounds=config.rounds,
                roll=roll_further,
                count_mixed=lambda table: mixed_groups(
                    table, inputs["train"], config.task, config.verifier, context.derived.weights
                ),
            )
            here = list(range(len(table)))
    return {"generate": table.with_columns(position=pl.Series(here, dtype=pl.Int64))}


def worked_solutions(plans: Sequence[Plan], inputs: Inputs, config: Config, context: Context) -> pl.DataFrame:
    """Return a demonstration for every plan, as a rollouts table."""
    from extra_rl.models.policy import load_tokenizer, resolve
    from extra_rl.sampling.demonstrated import demonstrated
    from extra_rl.sampling.open import open_decoder

    directory = resolve(inputs.policy())
    tokenizer, decode = load_tokenizer(directory), open_decoder(directory, config.sampling.stop)
    return demonstrated(plans, inputs["train"], config.task, config.sampling, tokenizer, decode, context.seed())
