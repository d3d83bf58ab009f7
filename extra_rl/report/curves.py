"""Means and bands over seeds. A band is mean plus and minus one sample standard deviation; with one seed it is null.

Source: our decision. `compare` computes intervals of differences; bands only show the spread of seeds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

POINTS = 40
"""Points of a curve over tokens."""
PLACE = ["folder", "arm", "regime"]


def over_tokens(rows: pl.DataFrame, column: str, points: int = POINTS) -> pl.DataFrame:
    """Return curves of `column` against sampled tokens: PLACE, tokens, mean, low, high, seeds.

    Seeds reach a token count in different iterations, so each seed's curve is interpolated linearly on one grid per
    folder: `points` equal steps from the first token count of any seed to the last. A seed counts where it has data.
    rows: PLACE, seed, total_sampled_tokens and `column`; nulls of `column` are left out.
    """
    out: list[dict[str, Any]] = []
    usable = rows.filter(pl.col(column).is_not_null()).sort("total_sampled_tokens")
    for place, part in usable.group_by(PLACE, maintain_order=True):
        curves = [
            (one["total_sampled_tokens"].to_numpy().astype(float), one[column].to_numpy().astype(float))
            for _, one in part.group_by("seed", maintain_order=True)
        ]
        grid = np.linspace(min(x[0] for x, _ in curves), max(x[-1] for x, _ in curves), points)
        for tokens in np.unique(grid):
            values = [float(np.interp(tokens, x, y)) for x, y in curves if x[0] <= tokens <= x[-1]]
            if values:
                out.append({**dict(zip(PLACE, place, strict=True)), "tokens": tokens, **band(values)})
    schema = dict.fromkeys(PLACE, pl.String) | {"tokens": pl.Float64, **BAND}
    return _in_order_of(rows, pl.DataFrame(out, schema=schema))


BAND = {"mean": pl.Float64, "low": pl.Float64, "high": pl.Float64, "seeds": pl.Int64}


def band(values: list[float]) -> dict[str, Any]:
    """Return mean, low = mean - sd, high = mean + sd (sample sd; None for one value) and the number of values."""
    mean = float(np.mean(values))
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {
        "mean": mean,
        "low": None if sd is None else mean - sd,
        "high": None if sd is None else mean + sd,
        "seeds": len(values),
    }


def over_seeds(rows: pl.DataFrame, by: list[str], column: str) -> pl.DataFrame:
    """Return `by`, mean, low, high and seeds of `column`, without nulls, in the order of rows."""
    mean, sd = pl.col(column).mean(), pl.col(column).std()
    return (
        rows.filter(pl.col(column).is_not_null())
        .group_by(by, maintain_order=True)
        .agg(mean=mean, low=mean - sd, high=mean + sd, seeds=pl.len().cast(pl.Int64))
    )


def composition(rows: pl.DataFrame) -> pl.DataFrame:
    """Return PLACE, iteration, kind (all incorrect, mixed, all correct), share of all seeds' fresh groups, groups."""
    kinds = ["all_incorrect", "mixed", "all_correct"]
    total = rows.group_by([*PLACE, "iteration"], maintain_order=True).agg(
        *(pl.col(kind).sum() for kind in kinds), groups=pl.sum_horizontal(*kinds).sum()
    )
    return (
        total.filter(pl.col("groups") > 0)
        .with_columns(pl.col(kind) / pl.col("groups") for kind in kinds)
        .unpivot(kinds, index=[*PLACE, "iteration", "groups"], variable_name="kind", value_name="share")
        .with_columns(pl.col("kind").str.replace("_", " "))
    )


def regeneration(rows: pl.DataFrame) -> pl.DataFrame:
    """Return PLACE, iteration, what (triggered, rescued), mean, low, high, seeds.

    triggered: continued groups per fresh group of the iteration. rescued: share of the continued groups with a correct
    continuation; left out where there were none.
    """
    rates = rows.with_columns(
        triggered=pl.when(pl.col("groups") > 0).then(pl.col("regenerated_groups") / pl.col("groups")),
        rescued=pl.when(pl.col("regenerated_groups") > 0).then(pl.col("rescued_groups") / pl.col("regenerated_groups")),
    ).unpivot(["triggered", "rescued"], index=[*PLACE, "seed", "iteration"], variable_name="what", value_name="rate")
    return over_seeds(rates, [*PLACE, "what", "iteration"], "rate")


def _in_order_of(rows: pl.DataFrame, curves: pl.DataFrame) -> pl.DataFrame:
    """Return the curves in the order of the folders in `rows`."""
    order = rows.select("folder").unique(maintain_order=True).with_row_index("place_")
    return curves.join(order, on="folder", how="left").sort("place_", "tokens").drop("place_")
