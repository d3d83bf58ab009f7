"""The group that a rollout's reward is compared within, and the rollouts that may have an advantage other than 0."""

from __future__ import annotations

import polars as pl

from extra_rl.results import REPLAYED


def parents_of(rows: pl.DataFrame, previous: pl.DataFrame) -> pl.DataFrame:
    """The fresh rollouts of `previous` whose groups are continued in `rows`: they complete joined groups."""
    continued = rows.filter(pl.col("origin") == "regenerated")["group_id"].unique()
    return previous.filter((pl.col("origin") == "fresh") & pl.col("group_id").is_in(continued.implode()))


def is_replay() -> pl.Expr:
    """Whether a rollout replays a stored trajectory (`choose_prefixes.replay`), by column `group_id`."""
    return (pl.col("origin") == "regenerated") & pl.col("group_id").str.contains(REPLAYED)


def with_advantage_group(rows: pl.DataFrame, *, joined: bool) -> pl.DataFrame:
    """Add `advantage_group`: the label of the rows whose rewards are normalised together.

    joined: continuations join the group of their parents. Where no parent is in `rows`, they form a separate group.
    """
    present = rows.filter(pl.col("origin") == "fresh")["group_id"].unique()
    joins = pl.lit(joined) & pl.col("group_id").is_in(present.implode())
    separate = (pl.col("origin") == "regenerated") & ~joins
    return rows.with_columns(
        advantage_group=pl.when(separate).then(pl.col("group_id") + "/own").otherwise(pl.col("group_id"))
    )


def rows_with_signal(
    rows: pl.DataFrame, previous: pl.DataFrame, *, joined: bool, bonus: bool
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
    Source: our decision (docs/decisions/0016).
    """
    parents = parents_of(rows, previous) if joined else previous.clear()
    both = pl.concat([rows.with_columns(carried=pl.lit(False)), parents.with_columns(carried=pl.lit(True))])
    judged = pl.col("reward").is_not_null()
    differs = pl.col("reward").drop_nulls().n_unique().over("advantage_group") > 1
    rewarded = pl.lit(bonus) & (pl.col("verdict") == "right") & ~pl.col("carried")
    kept = with_advantage_group(both, joined=joined).filter(judged & (differs | rewarded)).drop("advantage_group")
    return tuple(kept.filter(carried=of).drop("carried") for of in (False, True))  # type: ignore[return-value]
