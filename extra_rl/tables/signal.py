"""Which group a rollout is compared with, and, before advantages are known, which rollouts may carry a signal."""

from __future__ import annotations

import polars as pl


def completed_by(rows: pl.DataFrame, former: pl.DataFrame) -> pl.DataFrame:
    """The fresh rollouts of `former` whose group is continued in `rows`: the parents that complete a joined group."""
    continued = rows.filter(pl.col("origin") == "regenerated")["group_id"].unique()
    return former.filter((pl.col("origin") == "fresh") & pl.col("group_id").is_in(continued.implode()))


def with_advantage_group(rows: pl.DataFrame, *, joined: bool) -> pl.DataFrame:
    """Adds `advantage_group`: the group whose rewards a rollout is compared with.

    joined: continuations join their parents' group. One whose parents are not in `rows` forms a group of its own.
    """
    at_hand = rows.filter(pl.col("origin") == "fresh")["group_id"].unique()
    joins = pl.lit(joined) & pl.col("group_id").is_in(at_hand.implode())
    own = (pl.col("origin") == "regenerated") & ~joins
    return rows.with_columns(
        advantage_group=pl.when(own).then(pl.col("group_id") + "/own").otherwise(pl.col("group_id"))
    )


def rows_with_signal(
    rows: pl.DataFrame, former: pl.DataFrame, *, joined: bool, bonus: bool
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows that may have an advantage other than 0, and those of `former` that may have one beside them.

    rows: rollouts of one sampling call with their verdicts. former: rollouts with verdicts among which the parents of
    continuations lie. A judged rollout may have an advantage where the judged rewards of its group differ, parents
    counted where groups are joined; and, with a novelty bonus, where it is right. More rows are kept than `advantage`
    may come to train (a reward equal to the mean, an unrescued group), never fewer.
    Source: our decision (docs/decisions/0016).
    """
    parents = completed_by(rows, former) if joined else former.clear()
    both = pl.concat([rows.with_columns(carried=pl.lit(False)), parents.with_columns(carried=pl.lit(True))])
    judged = pl.col("reward").is_not_null()
    differs = pl.col("reward").drop_nulls().n_unique().over("advantage_group") > 1
    rewarded = pl.lit(bonus) & (pl.col("verdict") == "right") & ~pl.col("carried")
    kept = with_advantage_group(both, joined=joined).filter(judged & (differs | rewarded)).drop("advantage_group")
    return tuple(kept.filter(carried=of).drop("carried") for of in (False, True))  # type: ignore[return-value]
