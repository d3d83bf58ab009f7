"""Judges every rollout against the answer of its own problem.

READS   rollouts (generate or regenerate), train (the answers)
ADDS    verify: verdict, extracted answer, the rule that decided, the reward
SOURCE  own problem's answer (O): the released code (R) grades a regenerated rollout against the answer of the row that
        it displaced, kept as `gold: displaced` so that its cost can be measured
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import polars as pl
from pydantic import Field

from extra_rl.config.section import StageConfig
from extra_rl.config.sections import TaskConfig, VerifierConfig
from extra_rl.errors import ConfigError, ContractError
from extra_rl.judging.dispatch import judge_rollouts
from extra_rl.run.stage import Context, Inputs, Stage
from extra_rl.tables import contracts
from extra_rl.verdict import DEFAULT_REWARDS, Verdict


class Config(StageConfig):
    """The reward of each verdict, and the reference answer of continuations."""

    task: TaskConfig = Field(description="shared section `task`")
    verifier: VerifierConfig = Field(description="shared section `verifier`")
    rewards: dict[Verdict, float | None] = Field(
        DEFAULT_REWARDS, description="reward of each verdict; null: excluded from the group's statistics"
    )
    gold: Literal["own", "displaced"] = Field(
        "own",
        description="reference answer of continuations: that of their problem, or (a defect of the released code) that "
        "of a fresh group",
    )


STAGE = Stage(
    name="verify",
    version=6,
    reads={"rollouts": contracts.Rollouts, "train": contracts.Problems},
    adds={"verify": contracts.Verdicts},
)


def run(inputs: Inputs, config: Config, context: Context) -> Mapping[str, pl.DataFrame]:
    """One verdict a rollout, in the order of the rollouts."""
    rewards = DEFAULT_REWARDS | config.rewards
    rows = with_gold(inputs["rollouts"], inputs["train"], config.gold)
    judgements = judge_rollouts(rows, config.task, config.verifier)
    return {
        "verify": contracts.Verdicts.cast(
            pl.DataFrame(
                {
                    "rollout_id": rows["rollout_id"],
                    "gold": rows["gold"],
                    "verdict": [j.verdict.value for j in judgements],
                    "extracted": [j.extracted for j in judgements],
                    "rule": [j.rule for j in judgements],
                    "reward": [rewards[j.verdict] for j in judgements],
                },
                strict=False,
            )
        )
    }


def with_gold(rollouts: pl.DataFrame, train: pl.DataFrame, gold: str) -> pl.DataFrame:
    """Rollouts with `problem`, `metadata`, `gold` and tolerances of the problem that they are judged by.

    ContractError when a rollout's problem is unknown.
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
            f"{len(unknown)} rollout(s) answer a problem that train does not have, first "
            f"{unknown['rollout_id'][0]} with problem {unknown['problem_id'][0]!r}. These rollouts belong to another "
            "problem set: delete the iteration's files and run again."
        )
    return rows


def _displaced(rollouts: pl.DataFrame) -> pl.DataFrame:
    """group_id -> displaced_problem_id: the i-th regenerated group takes the place of the i-th fresh group."""
    groups = rollouts.select("group_id", "problem_id", "origin").unique(maintain_order=True)
    guided = groups.filter(pl.col("origin") == "regenerated")["group_id"]
    fresh = groups.filter(pl.col("origin") == "fresh")["problem_id"]
    if len(guided) and fresh.is_empty():
        raise ConfigError("verify.gold: displaced needs choose_prefixes.when: next_iteration, as in the released code.")
    return pl.DataFrame(
        {"group_id": guided, "displaced_problem_id": [fresh[i % len(fresh)] for i in range(len(guided))]},
        schema={"group_id": pl.String, "displaced_problem_id": pl.String},
    )
