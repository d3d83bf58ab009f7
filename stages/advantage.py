"""Computes one advantage for each rollout from rewards and novelty, and keeps its parts.

READS   generate, regenerate, their verdicts, novelty; the previous iteration's rollouts and verdicts, whose parents
        complete joined groups
WRITES  advantage: reward, normalised reward, bonus, advantage; whether `update` trains on the row, and from which token
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
from extra_rl.tables.signal import is_replay, parents_of, with_advantage_group


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
    min_relative_std: float = Field(
        algorithm.MIN_RELATIVE_STD,
        ge=0,
        description="with `scale: batch_std`: minimum divisor, as a multiple of the mean novelty; bounds the mean "
        "bonus by weight / min_relative_std; 0: no bound",
    )
    placement: Literal["after_normalisation", "before_normalisation"] = Field(
        "after_normalisation", description="add the bonus to the normalised reward, or to the reward"
    )
    group: Literal["own", "joined"] = Field(
        "own", description="continuations form a separate group, or join their parents' group"
    )
    prefix_loss: Literal["masked", "trained"] = Field(
        "masked", description="masked: the prefix tokens of a continuation carry no loss; those of a replay never do"
    )
    keep_unrescued: bool = Field(
        True,
        description="false: continuations of a problem that none of them solves are left out, also of denominators",
    )
    guided_advantage: Literal["signed", "positive_only"] = Field(
        "signed", description="positive_only: negative advantages of continuations become 0"
    )
    replay_advantage: Literal["signed", "positive_only"] = Field(
        "signed",
        description="the same for replays (`choose_prefixes.replay`), which `guided_advantage` leaves as they are",
    )


STAGE = Stage(
    name="advantage",
    version=3,
    reads={
        "generate": contracts.Rollouts,
        "regenerate": contracts.Rollouts,
        "verify_generate": contracts.Verdicts,
        "verify_regenerate": contracts.Verdicts,
        "novelty": contracts.Novelty,
        "previous_generate?": contracts.Rollouts,
        "previous_verify_generate?": contracts.Verdicts,
    },
    writes={"advantage": contracts.Advantages},
)


def run(inputs: Inputs, config: Config, context: Context) -> Mapping[str, pl.DataFrame]:
    """One row for every rollout of the iteration and for every parent that completes a joined group."""
    rows = all_rollouts(inputs, scores=("verify",)).with_columns(carried=pl.lit(False))
    rows = rows.join(
        inputs["novelty"].select("rollout_id", "novelty"), on="rollout_id", how="left", maintain_order="left"
    )
    rows = pl.concat([rows, carried_parents(rows, inputs, config)], how="diagonal")
    require_one_problem_per_group(rows)
    rows = drop_unrescued(with_advantage_group(rows, joined=config.group == "joined"), config)
    return {"advantage": contracts.Advantages.cast(with_advantages(rows, config))}


def require_one_problem_per_group(rows: pl.DataFrame) -> None:
    """Raise ContractError where the rollouts of a group, of any table, belong to more than one problem."""
    mixed = rows.filter(pl.col("problem_id").n_unique().over("group_id") > 1)
    if len(mixed):
        group = mixed.filter(group_id=mixed["group_id"][0])
        raise ContractError(
            f"group {mixed['group_id'][0]} has members of {group['problem_id'].n_unique()} problems, for example "
            f"{group.unique('problem_id', keep='first', maintain_order=True)['rollout_id'].to_list()}. A continuation "
            "must answer its parents' problem: delete the iteration's generate and regenerate tables and run again."
        )


def carried_parents(rows: pl.DataFrame, inputs: Inputs, config: Config) -> pl.DataFrame:
    """Fresh rollouts of the previous iteration whose groups are continued in `rows`; none unless groups are joined."""
    if config.group != "joined":
        return rows.clear()
    previous = rollouts_of(inputs, "generate", "previous_", scores=("verify",))
    return parents_of(rows, previous).with_columns(carried=pl.lit(True))


def drop_unrescued(rows: pl.DataFrame, config: Config) -> pl.DataFrame:
    """Add `unrescued`, true for continuations in groups without a correct one, and drop their carried parents.

    With `keep_unrescued` the column is false everywhere and no row is dropped.
    """
    continuation = pl.col("origin") == "regenerated"
    rescued = (continuation & (pl.col("verdict") == "right")).any().over("group_id")
    unrescued = continuation.any().over("group_id") & ~rescued & pl.lit(not config.keep_unrescued)
    # Both columns are computed before the filter: an expression over a group must see all rows of the group.
    rows = rows.with_columns(unrescued=unrescued & continuation, dropped=unrescued & pl.col("carried"))
    return rows.filter(~pl.col("dropped"))


def with_advantages(rows: pl.DataFrame, config: Config) -> pl.DataFrame:
    """Add group_type, normalised, bonus, advantage, loss_start and trained.

    A correct demonstration has the advantage 1, an incorrect one 0; neither has a bonus.
    """
    counted = rows["reward"].is_not_null() & ~rows["unrescued"]
    rewards = np.where(counted, rows["reward"].fill_null(float("nan")), np.nan)
    groups = rows["advantage_group"].rank("dense").to_numpy().astype(np.int64)
    correct = (rows["verdict"] == "right").to_numpy() & counted.to_numpy()
    novelty = rows["novelty"].fill_null(0.0).to_numpy()
    bonus = algorithm.novelty_bonus(
        novelty,
        correct,
        groups,
        weight=config.weight,
        centring=config.centring,
        scale=config.scale,
        min_relative_std=config.min_relative_std,
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
    replay = rows.select(is_replay()).to_series().to_numpy()
    continuation = (rows["origin"] == "regenerated").to_numpy() & ~replay
    demonstration = (rows["origin"] == "demonstration").to_numpy()
    normalised, total = (np.where(demonstration, correct, part) for part in (parts.normalised_N, parts.advantage_N))
    bonus = np.where(demonstration, 0.0, parts.bonus_N)
    if config.guided_advantage == "positive_only":
        total = algorithm.positive_only(total, continuation)
    if config.replay_advantage == "positive_only":
        total = algorithm.positive_only(total, replay)
    masked = (pl.lit(config.prefix_loss == "masked") | is_replay()) & (pl.col("origin") != "demonstration")
    return rows.with_columns(
        group_type=pl.Series(algorithm.group_types(correct, rewards, groups)),
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
