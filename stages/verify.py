"""Judges every rollout against the reference answer of its problem.

READS   rollouts (generate or regenerate), train (reference answers)
WRITES  verify (verdict, extracted answer, deciding rule, reward, named numbers)
SOURCE  the answer of the rollout's problem (O); the released code (R) grades a continuation against the answer of the
        row that it displaced, which `gold: displaced` reproduces so that its cost can be measured
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import polars as pl
from pydantic import Field, model_validator

from extra_rl.config.section import Section, StageConfig
from extra_rl.config.sections import TaskConfig, VerifierConfig
from extra_rl.errors import ConfigError, ContractError
from extra_rl.judging.dispatch import faults_of_judge, judge_rollouts, user_code_of
from extra_rl.judging.reward import RewardRule, as_list, rewarded
from extra_rl.run.stage import Context, Inputs, Stage
from extra_rl.tables import contracts
from extra_rl.user_code import require_source
from extra_rl.verdict import DEFAULT_REWARDS, Verdict


class Config(StageConfig):
    """The reward of each verdict or the weights of numbers, and the reference answer of continuations."""

    task: TaskConfig = Field(description="shared section `task`")
    verifier: VerifierConfig = Field(description="shared section `verifier`")
    rewards: dict[Verdict, float | None] = Field(
        DEFAULT_REWARDS, description="reward of each verdict; null: excluded from the group's statistics"
    )
    weights: dict[Annotated[str, Field(pattern=r"^[A-Za-z_]\w{0,63}$")], float] = Field(
        {},
        description="the reward as a weighted sum of numbers: `correct` (1 or 0, or the judge's own), `length` "
        "(response tokens), `truncated` (1 or 0), and any that the judge returns (docs/rewards.md); empty: the judge's "
        "number, or the reward of the verdict",
    )
    gold: Literal["own", "displaced"] = Field(
        "own",
        description="reference answer of continuations: that of their problem, or (a defect of the released code) that "
        "of a fresh group",
    )

    @model_validator(mode="after")
    def weights_replace_the_rewards_of_verdicts(self) -> Config:
        """With weights, `rewards` only says which verdicts are excluded (null) or counted (0, and 1 for `right`)."""
        for verdict, reward in self.rewards.items() if self.weights else ():
            if reward not in (None, float(verdict is Verdict.RIGHT)):
                raise ValueError(
                    f"rewards.{verdict.value}: {reward:g} has no effect with `weights`, which make the reward; use "
                    "`weights` (correct, truncated), or null here to exclude such responses"
                )
        return self

    def rule(self) -> RewardRule:
        """How a judgement becomes a reward."""
        return RewardRule(DEFAULT_REWARDS | self.rewards, self.weights)


class Derived(Section):
    """Values that follow from other sections."""

    judge_source: str = Field("", description="digest of the source text of a user's judge")


STAGE = Stage(
    name="verify",
    version=7,
    reads={"rollouts": contracts.Rollouts, "train": contracts.Problems},
    writes={"verify": contracts.Verdicts},
    derived=Derived,
)


def run(inputs: Inputs, config: Config, context: Context) -> Mapping[str, pl.DataFrame]:
    """Judge each rollout, in the order of the rollouts."""
    require_source(user_code_of(config.task), context.derived.judge_source)
    rows = with_gold(inputs["rollouts"], inputs["train"], config.gold)
    found = rewarded(rows, judge_rollouts(rows, config.task, config.verifier), config.rule())
    judgements = [one.judgement for one in found]
    if faults := faults_of_judge(judgements, rows["rollout_id"].to_list(), config.task, config.weights):
        context.console.say(f"WARNING: {context.job.title}: {faults}")
    return {
        "verify": contracts.Verdicts.cast(
            pl.DataFrame(
                {
                    "rollout_id": rows["rollout_id"],
                    "gold": rows["gold"],
                    "verdict": [j.verdict.value for j in judgements],
                    "extracted": [j.extracted for j in judgements],
                    "rule": [j.rule for j in judgements],
                    "reward": [one.reward for one in found],
                    "numbers": [as_list(one.numbers) for one in found],
                },
                schema_overrides={"numbers": contracts.Verdicts.numbers.dtype},
                strict=False,
            )
        )
    }


def with_gold(rollouts: pl.DataFrame, train: pl.DataFrame, gold: str) -> pl.DataFrame:
    """Return the rollouts with `problem`, `metadata`, `gold` and tolerances of the problem that judges them.

    Args:
        rollouts: contract Rollouts.
        train: contract Problems.
        gold: `own` or `displaced`, as in the configuration.

    Raises ContractError if a rollout's problem is unknown, ConfigError for `displaced` without fresh groups.
    """
    judged_by = pl.col("problem_id")
    if gold == "displaced":
        rollouts = rollouts.join(_displaced(rollouts), on="group_id", how="left", maintain_order="left")
        judged_by = pl.coalesce("displaced_problem_id", "problem_id")
    problems = train.select(
        "problem",
        "metadata",
        "relative_tolerance",
        "absolute_tolerance",
        judged_by=pl.col("problem_id"),
        gold=pl.col("answer"),
    )
    rows = rollouts.with_columns(judged_by=judged_by).join(problems, on="judged_by", how="left", maintain_order="left")
    unknown = rows.filter(pl.col("gold").is_null())
    if len(unknown):
        raise ContractError(
            f"{len(unknown)} rollout(s) answer a problem that is not in train, first "
            f"{unknown['rollout_id'][0]} with problem {unknown['problem_id'][0]!r}. These rollouts belong to another "
            "problem set: delete the iteration's files and run again."
        )
    return rows


def _displaced(rollouts: pl.DataFrame) -> pl.DataFrame:
    """Return group_id -> displaced_problem_id: the i-th continued group displaces the i-th fresh group, cyclically."""
    groups = rollouts.select("group_id", "problem_id", "origin").unique(maintain_order=True)
    continued = groups.filter(pl.col("origin") == "regenerated")["group_id"]
    fresh = groups.filter(pl.col("origin") == "fresh")["problem_id"]
    if len(continued) and fresh.is_empty():
        raise ConfigError("verify.gold: displaced needs choose_prefixes.when: next_iteration, as in the released code.")
    return pl.DataFrame(
        {"group_id": continued, "displaced_problem_id": [fresh[i % len(fresh)] for i in range(len(continued))]},
        schema={"group_id": pl.String, "displaced_problem_id": pl.String},
    )
