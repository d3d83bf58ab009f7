"""The group that a rollout's reward is compared within, and the rollouts that may have an advantage other than 0."""

from __future__ import annotations

import polars as pl

from extra_rl.results import REPLAYED

OWN = "/own"
"""Ends the label of the group that continuations form by themselves."""
SEGMENTS = "/segments"
"""Ends that label where continuations have credit by segment, so their rewards are compared by prefix."""

OF_USEFUL_GROUPS = ("advantage_group", "reward", "normalised", "token_advantages", "trained")
"""Columns of `advantage` that `useful_groups` reads."""


def parents_of(rows: pl.DataFrame, previous: pl.DataFrame) -> pl.DataFrame:
    """The fresh rollouts of `previous` whose groups are continued in `rows`: they complete joined groups."""
    continued = rows.filter(pl.col("origin") == "regenerated")["group_id"].unique()
    return previous.filter((pl.col("origin") == "fresh") & pl.col("group_id").is_in(continued.implode()))


def is_replay() -> pl.Expr:
    """Whether a rollout replays a stored trajectory (`choose_prefixes.replay`), by column `group_id`."""
    return (pl.col("origin") == "regenerated") & pl.col("group_id").str.contains(REPLAYED)


def with_advantage_group(rows: pl.DataFrame, *, joined: bool, separate_end: str = OWN) -> pl.DataFrame:
    """Add `advantage_group`: the label of the rows whose rewards are normalised together.

    joined: continuations join the group of their parents. Where no parent is in `rows`, they form a separate group,
    whose label ends in `separate_end`.
    """
    present = rows.filter(pl.col("origin") == "fresh")["group_id"].unique()
    joins = pl.lit(joined) & pl.col("group_id").is_in(present.implode())
    separate = (pl.col("origin") == "regenerated") & ~joins
    return rows.with_columns(
        advantage_group=pl.when(separate).then(pl.col("group_id") + separate_end).otherwise(pl.col("group_id"))
    )


def rows_with_signal(
    rows: pl.DataFrame,
    previous: pl.DataFrame,
    *,
    joined: bool,
    bonus: bool,
    zero_variance: bool = False,
    segments: bool = False,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows that may have an advantage other than 0, and the rows of `previous` that may have one as their parents.

    A judged rollout may have an advantage where the judged rewards of its group differ, and, with a novelty bonus,
    where it is correct. The result may contain rows that `advantage` does not train on (a reward equal to the mean, an
    unrescued group), but no row that it trains on is missing.

    Args:
        rows: rollouts of one sampling call with their verdicts.
        previous: rollouts with verdicts that include the parents of the continuations in `rows`.
        joined: whether continuations join the group of their parents, whose rewards then count.
        bonus: whether correct rollouts may have a novelty bonus.
        zero_variance: whether groups of equal rewards have a signal too: then every judged rollout of `rows` may.
        segments: whether continuations have credit by segment: then the rewards of their parents count, as if joined,
            but the parents have no advantage from it.
    Source: our decision (docs/decisions/0016).
    """
    parents = parents_of(rows, previous) if joined or segments else previous.clear()
    both = pl.concat([rows.with_columns(carried=pl.lit(False)), parents.with_columns(carried=pl.lit(True))])
    judged = pl.col("reward").is_not_null()
    differs = pl.col("reward").drop_nulls().n_unique().over("advantage_group") > 1
    rewarded = pl.lit(bonus) & (pl.col("verdict") == "right") & ~pl.col("carried")
    shaped = pl.lit(zero_variance) & ~pl.col("carried")
    own = with_advantage_group(both, joined=joined or segments)
    kept = own.filter(judged & (differs | rewarded | shaped)).drop("advantage_group")
    if segments and not joined:
        kept = kept.filter(~pl.col("carried"))
    return tuple(kept.filter(carried=of).drop("carried") for of in (False, True))  # type: ignore[return-value]


def useful_groups(advantages: pl.DataFrame) -> int:
    """The number of groups that `update` learns from because their rewards differ, continuations included.

    A novelty bonus, a KL term or the entropy signal of a group of equal rewards (`zero_variance_weight`) do not make a
    group useful. A group with credit by segment is useful if a segment of it has an advantage. advantages:
    the columns OF_USEFUL_GROUPS of contracts.Advantages.
    """
    group = pl.col("advantage_group")
    equal = pl.col("reward").drop_nulls().n_unique().over("advantage_group") <= 1
    of_entropy = pl.col("token_advantages").is_not_null() & equal & ~group.str.ends_with(SEGMENTS)
    learned = advantages.filter(~of_entropy).filter((pl.col("trained") == "trained") & (pl.col("normalised") != 0))
    return learned["advantage_group"].n_unique()
