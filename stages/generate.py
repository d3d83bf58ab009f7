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
from extra_rl.sampling.rounds import (
    further_rounds,
    is_mixed,
    judged_rollouts,
    lacks,
    mixed_groups,
    same_problem_rounds,
)
from extra_rl.sampling.shards import positions_of
from extra_rl.tables import contracts
from extra_rl.user_code import require_source


def _is_default(value: object) -> bool:
    return value in (False, "new_problems", "mixed")


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

    # Left out where they are off, so that the jobs of runs without them stay as they are.
    rounds_on: Literal["new_problems", "same_problem"] = Field(
        "new_problems",
        exclude_if=_is_default,
        description="what a further round samples: new_problems (DAPO), or group_size more rollouts of each problem "
        "that has not ended (Reinforce-Ada; docs/sampling.md)",
    )
    rounds_until: Literal["mixed", "balanced"] = Field(
        "mixed",
        exclude_if=_is_default,
        description="with `rounds_on: same_problem`: a problem ends with one correct and one incorrect rollout, or "
        "with half a group of each",
    )
    half_groups: bool = Field(
        False,
        exclude_if=_is_default,
        description="true: sample half of each group first, and the rest only of mixed ones (docs/sampling.md)",
    )

    @property
    def ends_with(self) -> tuple[int, int]:
        """Correct and incorrect rollouts with which a problem ends (`rounds_on: same_problem`)."""
        half = self.group_size // 2
        return (1, 1) if self.rounds_until == "mixed" else (half, self.group_size - half)

    @model_validator(mode="after")
    def rounds_fit_together(self) -> Config:
        reasons = []
        if self.source == "demonstrations" and (self.rounds > 1 or self.half_groups):
            reasons.append("source: demonstrations samples nothing: set rounds: 1 and half_groups: false")
        if self.half_groups and self.rounds > 1:
            reasons.append("half_groups samples a group in two rounds of its own: set rounds: 1")
        if self.half_groups and self.group_size < 4:
            reasons.append(
                f"half_groups needs two rollouts in the first half: group_size: {self.group_size} is below 4"
            )
        if self.rounds_until == "balanced" and self.rounds_on != "same_problem":
            reasons.append("rounds_until: balanced needs rounds_on: same_problem")
        if reasons:
            raise ValueError("; ".join(reasons))
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
    if (config.rounds > 1 or config.half_groups) and context.job.shard:
        raise ConfigError(
            "a shard cannot know how many groups are missing overall: with generate.rounds > 1 or half_groups, set "
            "generation.shards: 1."
        )
    if inputs["select"].is_empty():
        return {"generate": contracts.RolloutsOfShard.create_empty()}
    require_source(user_code_of(config.task), context.derived.judge_source)
    require_source(config.task.name, context.derived.task_source)
    size = config.group_size
    first, further = plans_by_round(inputs, config)
    plans = first + continuation_plans(inputs["previous_choose_prefixes"], "next_iteration", context.job.place)
    here = positions_of(plans, context.job.shard, config.sampling.max_response_tokens)
    if not here:  # a shard without a group need not load the model
        return {"generate": contracts.RolloutsOfShard.create_empty()}
    mine, spare = [plans[i] for i in here], [plan for plans_of_round in further for plan in plans_of_round]
    if config.source == "demonstrations":
        given = worked_solutions(mine, inputs, config, context)
        return {"generate": given.with_columns(position=pl.Series(here, dtype=pl.Int64))}
    started = time.monotonic()
    with open_roller([*mine, *spare], inputs.policy(), config.sampling, config.compute, context.seed()) as roll:
        context.figures[OPENING_SECONDS] = time.monotonic() - started
        table = roll(mine, context.progress(len(mine), f"{context.job.title}: rollout").update)
        if spare:
            awaited = "mixed group(s) missing" if config.rounds_on == "new_problems" else "group(s) sampled again"
            awaited = "mixed group(s) completed" if config.half_groups else awaited

            def roll_further(number: int, missing: int, chosen: Sequence[Plan]) -> pl.DataFrame:
                title = f"{context.job.title}, round {number}"
                context.console.note(f"{title}: {missing} {awaited}, {len(chosen)} more rollouts")
                return roll(chosen, context.progress(len(chosen), f"{title}: rollout").update)

            judging = (inputs["train"], config.task, config.verifier, context.derived.weights)
            if config.rounds_on == "same_problem" or config.half_groups:
                table = same_problem_rounds(
                    table,
                    further,
                    roll=roll_further,
                    judge=lambda table: judged_rollouts(table, *judging),
                    goes_on=is_mixed() if config.half_groups else lacks(*config.ends_with),
                )
            else:
                table = further_rounds(
                    table,
                    [spare[i : i + size] for i in range(0, len(spare), size)],
                    target=len(first) // size,
                    rounds=config.rounds,
                    roll=roll_further,
                    count_mixed=lambda table: mixed_groups(table, *judging),
                )
            here = list(range(len(table)))
    return {"generate": table.with_columns(position=pl.Series(here, dtype=pl.Int64))}


def plans_by_round(inputs: Inputs, config: Config) -> tuple[list[Plan], list[list[Plan]]]:
    """Return the plans of the first round and those of each further round, of which not all need be sampled.

    With new problems the plans of all further rounds are in one list, because their number in a round is not known.
    """
    selected, train, size = inputs["select"], inputs["train"], config.group_size
    if config.half_groups:
        half = size // 2
        return fresh_plans(selected, train, half), [fresh_plans(selected, train, size - half, half)]
    if config.rounds_on == "same_problem":
        rounds = [fresh_plans(selected, train, size, size * number) for number in range(config.rounds)]
        return rounds[0], rounds[1:]
    fresh = fresh_plans(selected, train, size)
    now = len(fresh) // config.rounds  # select has chosen the problems of all rounds
    return fresh[:now], [fresh[now:]]


def worked_solutions(plans: Sequence[Plan], inputs: Inputs, config: Config, context: Context) -> pl.DataFrame:
    """Return a demonstration for every plan, as a rollouts table."""
    from extra_rl.models.policy import load_tokenizer, resolve
    from extra_rl.sampling.demonstrated import demonstrated
    from extra_rl.sampling.open import open_decoder

    directory = resolve(inputs.policy())
    tokenizer, decode = load_tokenizer(directory), open_decoder(directory, config.sampling.stop)
    return demonstrated(plans, inputs["train"], config.task, config.sampling, tokenizer, decode, context.seed())
