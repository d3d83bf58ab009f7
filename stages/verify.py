"""Judges every rollout against the reference answer of its problem.

READS   rollouts (generate or regenerate), train (reference answers)
WRITES  verify (verdict, extracted answer, deciding rule, reward)
SOURCE  the answer of the rollout's problem (O); the released code (R) grades a continuation against the answer of the
        row that it displaced, which `gold: displaced` reproduces so that its cost can be measured
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
    writes={"verify": contracts.Verdicts},
)


def run(inputs: Inputs, config: Config, context: Context) -> Mapping[str, pl.DataFrame]:
    """Judge each rollout, in the order of the rollouts."""
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
