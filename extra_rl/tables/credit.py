"""Advantages by token: rows of the stage `advantage` become lists with one advantage for each response token."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from extra_rl.algorithms.groups import Floats
from extra_rl.algorithms.token_credit import entropy_signal, segment_advantages
from extra_rl.errors import ConfigError
from extra_rl.tables.signal import is_replay

TokenSignals = dict[int, Floats]
"""Row -> signal of each of its response tokens, (T,), without the novelty bonus; for rows whose tokens differ."""


def entropy_signals(rows: pl.DataFrame, starts_N: npt.NDArray[np.int64], weight: float) -> TokenSignals:
    """Return the entropy-sized signals of groups whose rewards are all equal (RL-ZVP); none for a weight of 0.

    A group counts if it has at least two judged rollouts, their rewards are equal, and they are all correct or all
    incorrect. Parents that complete a joined group had their signal in their own iteration and get none; neither do
    demonstrations.

    Args:
        rows: with rollout_id, advantage_group, group_type, reward (null: excluded), unrescued, carried, origin and
            entropies (null: not scored).
        starts_N: first response token with loss of each row.
        weight: alpha.
    Raises ConfigError where such a rollout has no entropies.
    """
    if not weight:
        return {}
    counted = pl.col("reward").is_not_null() & ~pl.col("unrescued")
    rewards = pl.when(counted).then(pl.col("reward"))
    equal = rewards.drop_nulls().n_unique().over("advantage_group") == 1
    chosen = (
        rows.with_row_index("row")
        .with_columns(equal=equal)
        .filter(
            pl.col("equal") & counted & ~pl.col("carried") & (pl.col("origin") != "demonstration"),
            pl.col("group_type").is_in(["all_correct", "all_incorrect"]),
        )
    )
    unscored = chosen.filter(pl.col("entropies").is_null())["rollout_id"]
    if len(unscored):
        raise ConfigError(
            f"advantage.zero_variance_weight reads the entropies of every rollout in a group of equal rewards, and "
            f"{len(unscored)} have none, first {unscored[0]}. Run score_entropy on all rollouts (score_entropy.rows), "
            "or set zero_variance_weight: 0."
        )
    return {
        row: entropy_signal(np.array(entropies), group_type == "all_correct", weight, int(starts_N[row]))
        for row, entropies, group_type in chosen.select("row", "entropies", "group_type").iter_rows()
    }


def segment_signals(rows: pl.DataFrame, parents: pl.DataFrame, starts_N: npt.NDArray[np.int64]) -> TokenSignals:
    """Return the signals of continuations by segment: of the prefix's tokens, then of the sampled ones.

    Args:
        rows: with group_id, prefix_id, prefix_length, origin, reward (null: excluded), unrescued and response_tokens.
        parents: fresh rollouts of the previous iteration whose groups are continued, with group_id and reward.
        starts_N: first response token with loss of each row; tokens before it have 0.
    """
    columns = ("group_id", "prefix_id", "reward")
    own = rows.with_columns(reward=pl.when(~pl.col("unrescued")).then(pl.col("reward"))).select(*columns, "origin")
    fresh = pl.concat([own, parents.select(*columns, origin=pl.lit("fresh").cast(own["origin"].dtype))])
    labels = pl.when(pl.col("origin") == "regenerated").then(pl.col("prefix_id").rank("dense").cast(pl.Int64))
    numbered = fresh.with_columns(
        group=pl.col("group_id").rank("dense").cast(pl.Int64),
        prefix=labels.otherwise(-1),
        # A demonstration is no sample of the policy: it has no part in the value of a prompt.
        reward=pl.when(pl.col("origin") != "demonstration").then(pl.col("reward")),
    )
    found = segment_advantages(
        numbered["reward"].cast(pl.Float64).fill_null(float("nan")).to_numpy(),
        numbered["group"].to_numpy(),
        numbered["prefix"].to_numpy(),
    )
    signals: TokenSignals = {}
    described = rows.select("origin", "prefix_length", length=pl.col("response_tokens").list.len())
    for row, (origin, prefix_length, length) in enumerate(described.iter_rows()):
        if origin == "regenerated":
            signal_T = np.full(length, found.own_N[row])
            signal_T[:prefix_length] = found.prefix_N[row]
            signal_T[: int(starts_N[row])] = 0.0
            signals[row] = signal_T
    return signals


def replay_prefix_signals(rows: pl.DataFrame, weight: float) -> TokenSignals:
    """Return the signals of replays with reinforced prefixes: beta V(prefix) in the prefix, then the rollout's own.

    V(prefix) is the share of the group's judged continuations that are correct. Only mixed groups count; none do for a
    weight of 0.

    Args:
        rows: with group_id, origin, advantage_group, verdict, reward (null: excluded), prefix_length, response_tokens
            and normalised.
        weight: beta.
    Source: our decision (O); docs/method.md, section 3.
    """
    if not weight:
        return {}
    judged = pl.col("reward").is_not_null()
    share = (pl.col("verdict") == "right").filter(judged).mean().over("advantage_group")
    chosen = (
        rows.with_row_index("row")
        .with_columns(share=share)
        .filter(is_replay(), judged, pl.col("prefix_length") > 0, pl.col("share") > 0, pl.col("share") < 1)
        .select("row", "share", "prefix_length", pl.col("response_tokens").list.len(), "normalised")
    )
    signals: TokenSignals = {}
    for row, value, prefix, tokens, own in chosen.iter_rows():
        signals[row] = np.full(tokens, own, np.float64)
        signals[row][:prefix] = weight * value
    return signals
