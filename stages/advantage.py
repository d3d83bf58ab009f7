"""Computes one advantage for each rollout from rewards and novelty, and keeps its parts.

READS   generate, regenerate, their verdicts, novelty; the previous iteration's rollouts and verdicts, whose parents
        complete joined groups and give the value of a prompt; the entropies of score_entropy (only with
        zero_variance_weight)
WRITES  advantage: reward, normalised reward, bonus, advantage (of every token where they differ); whether `update`
        trains on the row, and from which token
SOURCE  GRPO (docs/method.md 1), novelty bonus AFTER normalisation on correct rollouts only (2), regenerated groups (3),
        other forms of the advantage and advantages by token (7)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from extra_rl.algorithms import advantage as algorithm
from extra_rl.algorithms.rare_success import balanced_subset
from extra_rl.config.section import StageConfig
from extra_rl.errors import ConfigError, ContractError
from extra_rl.run.stage import Context, Inputs, Stage
from extra_rl.tables import contracts
from extra_rl.tables.credit import TokenSignals, entropy_signals, replay_prefix_signals, segment_signals
from extra_rl.tables.iteration import all_rollouts, rollouts_of
from extra_rl.tables.signal import OWN, SEGMENTS, is_replay, parents_of, with_advantage_group


def _is_zero(value: object) -> bool:
    """Left out where it is off, so that the jobs of runs without it stay as they are."""
    return value == 0


class Config(StageConfig):
    """Normalisation, novelty bonus, and the treatment of continued groups."""

    std_ddof: Literal[0, 1] = Field(1, description="degrees of freedom subtracted in the group's standard deviation")
    eps: float = Field(1e-6, gt=0, description="added to the group's standard deviation")
    divide_by_std: bool = Field(True, description="false: Dr. GRPO, reward minus mean only")
    normalise: algorithm.Normalise | None = Field(
        None,
        description="std: GRPO; mean_only: Dr. GRPO; mean: MaxRL, (r - mean) / mean; pass_at_k: pass@k training with "
        "`k`; null: std, or mean_only with `divide_by_std: false` (docs/method.md 7)",
    )
    k: int | None = Field(None, ge=1, description="k of `normalise: pass_at_k`, below the size of a group")
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
        "masked",
        description="masked: the prefix tokens of a continuation carry no loss; those of a replay have it only by "
        "`replay_prefix_weight`",
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
    replay_prefix_weight: float = Field(
        0.0,
        ge=0,
        exclude_if=_is_zero,
        description="beta: in a mixed group of replays each prefix token has the advantage beta x the share of correct "
        "continuations; 0: prefixes of replays carry no loss",
    )
    zero_variance_weight: float = Field(
        0.0,
        ge=0,
        description="alpha of RL-ZVP: groups of equal rewards get a signal by token that grows with its entropy; 0: "
        "off (docs/method.md 7)",
    )
    keep_per_group: int | None = Field(
        None,
        ge=2,
        description="largest number of fresh rollouts of a group that are trained on, half of them correct and half "
        "incorrect where there are as many; all count in the group's statistics (Reinforce-Ada); null: all",
    )
    credit: Literal["rollout", "segment"] = Field(
        "rollout",
        description="segment: the prefix of a continuation and the tokens that it sampled have separate advantages, "
        "by the values of prompt and prefix (docs/method.md 7)",
    )

    @model_validator(mode="after")
    def the_form_of_the_advantage_is_one(self) -> Config:
        reasons = []
        if not self.divide_by_std and self.normalise not in (None, "mean_only"):
            reasons.append(f"divide_by_std: false is another form of the advantage than normalise: {self.normalise}")
        if self.normalise == "pass_at_k" and self.k is None:
            reasons.append("normalise: pass_at_k needs k")
        if self.normalise != "pass_at_k" and self.k is not None:
            reasons.append(f"k: {self.k} needs normalise: pass_at_k")
        if self.normalise == "pass_at_k" and self.weight and self.placement == "before_normalisation":
            reasons.append(
                "normalise: pass_at_k counts rewards of 0 and 1, to which placement: before_normalisation adds a "
                "bonus; use after_normalisation"
            )
        if self.credit == "segment" and self.group == "joined":
            reasons.append("credit: segment compares continuations of one prefix, so it needs group: own")
        if reasons:
            raise ValueError("; ".join(reasons))
        return self


STAGE = Stage(
    name="advantage",
    version=4,
    reads={
        "generate": contracts.Rollouts,
        "regenerate": contracts.Rollouts,
        "verify_generate": contracts.Verdicts,
        "verify_regenerate": contracts.Verdicts,
        "score_entropy_generate?": contracts.TokenScores,
        "score_entropy_regenerate?": contracts.TokenScores,
        "novelty": contracts.Novelty,
        "previous_generate?": contracts.Rollouts,
        "previous_verify_generate?": contracts.Verdicts,
    },
    writes={"advantage": contracts.Advantages},
)


def run(inputs: Inputs, config: Config, context: Context) -> Mapping[str, pl.DataFrame]:
    """One row for every rollout of the iteration and for every parent that completes a joined group."""
    rows = rollouts_with_verdicts(inputs, config).with_columns(carried=pl.lit(False))
    rows = rows.join(
        inputs["novelty"].select("rollout_id", "novelty"), on="rollout_id", how="left", maintain_order="left"
    )
    parents = previous_parents(rows, inputs)
    if config.group == "joined":
        rows = pl.concat([rows, parents.with_columns(carried=pl.lit(True))], how="diagonal")
    require_one_problem_per_group(rows)
    separate_end = SEGMENTS if config.credit == "segment" else OWN
    rows = with_advantage_group(rows, joined=config.group == "joined", separate_end=separate_end)
    return {"advantage": contracts.Advantages.cast(with_advantages(drop_unrescued(rows, config), parents, config))}


def rollouts_with_verdicts(inputs: Inputs, config: Config) -> pl.DataFrame:
    """The rollouts of the iteration with their verdicts, and with entropies where `zero_variance_weight` is above 0.

    Raises ConfigError where the entropies are needed and no path of them was passed.
    """
    if not config.zero_variance_weight:
        return all_rollouts(inputs, scores=("verify",))
    if not {"score_entropy_generate", "score_entropy_regenerate"} <= inputs.tables.keys():
        raise ConfigError(
            "advantage.zero_variance_weight reads the entropies of score_entropy_generate and "
            "score_entropy_regenerate: pass the paths of both, or set it to 0."
        )
    return all_rollouts(inputs)


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


def previous_parents(rows: pl.DataFrame, inputs: Inputs) -> pl.DataFrame:
    """Fresh rollouts of the previous iteration whose groups are continued in `rows`, with their verdicts."""
    return parents_of(rows, rollouts_of(inputs, "generate", "previous_", scores=("verify",)))


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


def with_advantages(rows: pl.DataFrame, parents: pl.DataFrame, config: Config) -> pl.DataFrame:
    """Add group_type, normalised, bonus, advantage, token_advantages, loss_start and trained.

    A correct demonstration has the advantage 1, an incorrect one 0; neither has a bonus. parents: fresh rollouts of the
    previous iteration whose groups are continued.
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
        normalise=config.normalise,
        k=config.k or 0,
    )
    replay = rows.select(is_replay()).to_series().to_numpy()
    continuation = (rows["origin"] == "regenerated").to_numpy() & ~replay
    demonstration = (rows["origin"] == "demonstration").to_numpy()
    normalised, total = (np.where(demonstration, correct, part) for part in (parts.normalised_N, parts.advantage_N))
    masked = (pl.lit(config.prefix_loss == "masked") | is_replay()) & (pl.col("origin") != "demonstration")
    rows = rows.with_columns(
        group_type=pl.Series(algorithm.group_types(correct, rewards, groups), dtype=pl.String),
        normalised=pl.Series(normalised),
        bonus=pl.Series(np.where(demonstration, 0.0, parts.bonus_N)),
        advantage=pl.Series(total),
        loss_start=pl.when(masked).then(pl.col("prefix_length")).otherwise(0),
    )
    of_prefixes = replay_prefix_signals(rows, config.replay_prefix_weight)
    reinforced = pl.int_range(pl.len()).is_in(list(of_prefixes))
    rows = rows.with_columns(loss_start=pl.when(reinforced).then(0).otherwise(pl.col("loss_start")))
    rows = with_token_advantages(rows, parents, config, of_prefixes)
    chosen = np.zeros(len(rows), dtype=bool)
    if config.guided_advantage == "positive_only":
        chosen |= continuation
    if config.replay_advantage == "positive_only":
        chosen |= replay
    if chosen.any():
        rows = rows.with_columns(
            advantage=pl.Series(algorithm.positive_only(rows["advantage"].to_numpy(), chosen)),
            token_advantages=pl.when(pl.Series(chosen, dtype=pl.Boolean))
            .then(pl.col("token_advantages").list.eval(pl.element().clip(lower_bound=0.0)))
            .otherwise(pl.col("token_advantages")),
        )
    fresh = (rows["origin"] == "fresh").to_numpy()
    kept = ~fresh
    if config.keep_per_group is not None:
        kept |= balanced_subset(correct, fresh & counted.to_numpy(), groups, config.keep_per_group)
    else:
        kept |= fresh
    differing = pl.col("token_advantages").list.eval(pl.element() != 0).list.any()
    return rows.with_columns(
        trained=pl.when("unrescued")
        .then(pl.lit("unrescued"))
        .when(pl.col("reward").is_null())
        .then(pl.lit("excluded"))
        .when(~pl.Series(kept, dtype=pl.Boolean))
        .then(pl.lit("left_out"))
        .when(~pl.coalesce(differing, pl.col("advantage") != 0))
        .then(pl.lit("no_signal"))
        .otherwise(pl.lit("trained"))
    )


def with_token_advantages(
    rows: pl.DataFrame, parents: pl.DataFrame, config: Config, of_prefixes: TokenSignals
) -> pl.DataFrame:
    """Add token_advantages where the tokens of a row differ, and their means over the tokens with loss as its parts.

    The novelty bonus of a row is added to each token that it sampled, of those with loss. of_prefixes: the signals of
    replays whose prefixes are reinforced.
    """
    starts = rows["loss_start"].to_numpy().astype(np.int64)
    signals = entropy_signals(rows, starts, config.zero_variance_weight)
    if config.credit == "segment":  # a continuation then has no separate group
        signals |= segment_signals(rows, parents, starts)
    signals |= of_prefixes
    lists: list[list[float] | None] = [None] * len(rows)
    normalised, bonus, total = (rows[name].to_list() for name in ("normalised", "bonus", "advantage"))
    prefix_lengths = rows["prefix_length"].to_list()
    for row, signal_T in signals.items():
        bonus_T = np.zeros_like(signal_T)
        bonus_T[max(prefix_lengths[row], int(starts[row])) :] = bonus[row]
        with_loss = slice(int(starts[row]), None)
        if len(signal_T[with_loss]):
            normalised[row], bonus[row] = float(signal_T[with_loss].mean()), float(bonus_T[with_loss].mean())
        total[row] = normalised[row] + bonus[row]
        lists[row] = (signal_T + bonus_T).tolist()
    return rows.with_columns(
        normalised=pl.Series(normalised, dtype=pl.Float64),
        bonus=pl.Series(bonus, dtype=pl.Float64),
        advantage=pl.Series(total, dtype=pl.Float64),
        token_advantages=pl.Series(lists, dtype=pl.List(pl.Float64)),
    )
