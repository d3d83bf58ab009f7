"""Turns rewards and novelty into one advantage a rollout, its parts kept beside it.

READS   generate, regenerate, their verdicts, novelty, and the former iteration's rollouts:
        a joined group is completed by its parents
ADDS    advantage: reward -> normalised -> + bonus -> advantage; whether and from which token update learns
SOURCE  GRPO (docs/method.md 1), novelty bonus AFTER normalisation on correct rollouts only (2), regenerated groups (3)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field

from extra_rl.algorithms import advantage as algorithm
from extra_rl.config.section import StageConfig
from extra_rl.errors import ContractError
from extra_rl.run.stage import Context, Inputs, Stage
from extra_rl.tables import contracts
from extra_rl.tables.iteration import all_rollouts, rollouts_of
from extra_rl.tables.signal import completed_by, with_advantage_group


class Config(StageConfig):
    """Normalisation, novelty bonus, and the treatment of continued groups."""

    std_ddof: Literal[0, 1] = Field(1, description="degrees of freedom subtracted in the group's standard deviation")
    eps: float = Field(1e-6, gt=0, description="added to the group's standard deviation")
    divide_by_std: bool = Field(True, description="false: Dr. GRPO, reward minus mean only")
    weight: float = Field(0.0, ge=0, description="alpha, the weight of the novelty bonus; 0: off")
    centring: Literal["none", "among_correct"] = Field(
        "none", description="among_correct: subtract the mean bonus of the group's correct rollouts"
    )
    scale: Literal["none", "group_max", "batch_std"] = Field("none", description="divisor of the bonus")
    placement: Literal["after_normalisation", "before_normalisation"] = Field(
        "after_normalisation", description="add the bonus to the normalised reward, or to the reward"
    )
    group: Literal["own", "joined"] = Field(
        "own", description="continuations form a separate group, or join their parents' group"
    )
    prefix_loss: Literal["masked", "trained"] = Field(
        "masked", description="masked: the prefix tokens of a continuation carry no loss"
    )
    keep_unrescued: bool = Field(
        True,
        description="false: continuations of a problem that none of them solves are left out, also of denominators",
    )
    guided_advantage: Literal["signed", "positive_only"] = Field(
        "signed", description="positive_only: negative advantages of continuations become 0"
    )


STAGE = Stage(
    name="advantage",
    version=1,
    reads={
        "generate": contracts.Rollouts,
        "regenerate": contracts.Rollouts,
        "verify_generate": contracts.Verdicts,
        "verify_regenerate": contracts.Verdicts,
        "novelty": contracts.Novelty,
        "previous_generate?": contracts.Rollouts,
        "previous_verify_generate?": contracts.Verdicts,
    },
    adds={"advantage": contracts.Advantages},
)


def run(inputs: Inputs, config: Config, context: Context) -> Mapping[str, pl.DataFrame]:
    """One row for every rollout of the iteration, and for parents carried over to complete a joined group."""
    rows = all_rollouts(inputs, scores=("verify",)).with_columns(carried=pl.lit(False))
    rows = rows.join(
        inputs["novelty"].select("rollout_id", "novelty"), on="rollout_id", how="left", maintain_order="left"
    )
    rows = pl.concat([rows, parents(rows, inputs, config)], how="diagonal")
    refuse_mixed_groups(rows)
    rows = drop_unrescued(with_advantage_group(rows, joined=config.group == "joined"), config)
    return {"advantage": contracts.Advantages.cast(with_advantages(rows, config))}


def refuse_mixed_groups(rows: pl.DataFrame) -> None:
    """ContractError when a group's members, from whichever table, belong to more than one problem."""
    mixed = rows.filter(pl.col("problem_id").n_unique().over("group_id") > 1)
    if len(mixed):
        group = mixed.filter(group_id=mixed["group_id"][0])
        raise ContractError(
            f"group {mixed['group_id'][0]} has members of {group['problem_id'].n_unique()} problems, for example "
            f"{group.unique('problem_id', keep='first', maintain_order=True)['rollout_id'].to_list()}. A continuation "
            "must answer its parents' problem: delete the iteration's generate and regenerate tables and run again."
        )


def parents(rows: pl.DataFrame, inputs: Inputs, config: Config) -> pl.DataFrame:
    """Fresh rollouts of the former iteration whose group is continued now; none unless groups are joined."""
    former = rollouts_of(inputs, "generate", "previous_", scores=("verify",))
    return completed_by(rows, former).filter(pl.lit(config.group == "joined")).with_columns(carried=pl.lit(True))


def drop_unrescued(rows: pl.DataFrame, config: Config) -> pl.DataFrame:
    """Marks continuations of problems that none of them solved; their carried parents leave the table again."""
    guided = pl.col("origin") == "regenerated"
    rescued = (guided & (pl.col("verdict") == "right")).any().over("group_id")
    unrescued = guided.any().over("group_id") & ~rescued & pl.lit(not config.keep_unrescued)
    rows = rows.with_columns(unrescued=unrescued & guided, gone=unrescued & pl.col("carried"))
    return rows.filter(~pl.col("gone"))


def with_advantages(rows: pl.DataFrame, config: Config) -> pl.DataFrame:
    """Adds normalised, bonus, advantage and what follows from them. A right demonstration has the advantage 1."""
    counted = rows["reward"].is_not_null() & ~rows["unrescued"]
    rewards = np.where(counted, rows["reward"].fill_null(float("nan")), np.nan)
    groups = rows["advantage_group"].rank("dense").to_numpy().astype(np.int64)
    correct = (rows["verdict"] == "right").to_numpy() & counted.to_numpy()
    novelty = rows["novelty"].fill_null(0.0).to_numpy()
    bonus = algorithm.novelty_bonus(
        novelty, correct, groups, weight=config.weight, centring=config.centring, scale=config.scale
    )
    parts = algorithm.combine(
        rewards,
        bonus,
        groups,
        placement=config.placement,
        std_ddof=config.std_ddof,
        eps=config.eps,
        divide_by_std=config.divide_by_std,
    )
    guided = (rows["origin"] == "regenerated").to_numpy()
    given = (rows["origin"] == "demonstration").to_numpy()
    normalised, total = (np.where(given, correct, part) for part in (parts.normalised_N, parts.advantage_N))
    bonus = np.where(given, 0.0, parts.bonus_N)
    if config.guided_advantage == "positive_only":
        total = algorithm.positive_only(total, guided)
    masked = pl.lit(config.prefix_loss == "masked") & (pl.col("origin") != "demonstration")
    return rows.with_columns(
        group_type=pl.Series(algorithm.group_types(rewards, groups)),
        normalised=pl.Series(normalised),
        bonus=pl.Series(bonus),
        advantage=pl.Series(total),
        loss_start=pl.when(masked).then(pl.col("prefix_length")).otherwise(0),
    ).with_columns(
        trained=pl.when("unrescued")
        .then(pl.lit("unrescued"))
        .when(pl.col("reward").is_null())
        .then(pl.lit("excluded"))
        .when(pl.col("advantage") == 0)
        .then(pl.lit("no_signal"))
        .otherwise(pl.lit("trained"))
    )
