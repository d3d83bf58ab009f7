"""The lead figures where there are regimes: gain over the base arm, useful and rescued groups, against their number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import polars as pl

from extra_rl.report import charts, curves
from extra_rl.report.answer import Difference, differences
from extra_rl.report.figure import BANDS, Figure, Panel
from extra_rl.report.sources import Sources
from extra_rl.report.theme import Look


def figures(sources: Sources, iterations: pl.DataFrame, ks: list[int], arms: list[Look]) -> Iterator[Figure]:
    """The lead: gain over the base arm against the regime's number, and useful groups beside it."""
    values = sources.values
    if len(values) < 2:
        return
    base = sources.arms[0]
    rivals = [look for look in arms if look.name != base]
    against = [d for d in differences(sources) if d.base == base and d.regime in values]
    at = sorted(values.values())
    step = (at[-1] - at[0]) / max(len(at) - 1, 1) * 0.04
    shift = {look.name: (place - (len(rivals) - 1) / 2) * step for place, look in enumerate(rivals)}
    draw = partial(charts.points, x_values=at, shown="regime_value")
    yield Figure(
        "gain",
        "Gain by regime",
        f"Gain over {base} against the value of the regime",
        "Percentage points, mean over benchmarks and seeds, with 95 % t intervals blocked by warm start. Points of one "
        "regime are set side by side. Source: compare_differences.parquet.",
        [
            Panel(f"pass@{k}", draw(_gains(against, k, values, shift), ("x", "regime"), "points", rivals, zero=True))
            for k in ks
            if any(d.k == k for d in against)
        ],
        rivals,
    )
    rates = curves.per_thousand_tokens(iterations)
    shift[base] = -len(arms) / 2 * step
    place = pl.col("regime").replace_strict(values, return_dtype=pl.Float64)
    rates = rates.with_columns(regime_value=place, x=place + pl.col("arm").replace_strict(shift, default=0.0))
    titles = {"mixed": "useful groups (mixed)", "rescued": "rescued groups"}
    yield Figure(
        "useful",
        "Useful groups",
        "Useful and rescued groups per 1,000 sampled tokens, by regime",
        "Fresh groups that are neither all wrong nor all right, and hard groups with a right regenerated rollout. "
        f"{BANDS} Source: summarize.parquet of every iteration.",
        [
            Panel(title, draw(rates.filter(what=what), ("x", "regime"), "per 1,000 tokens", arms))
            for what, title in titles.items()
        ],
        arms,
    )


def _gains(found: list[Difference], k: int, values: Mapping[str, float], shift: dict[str, float]) -> pl.DataFrame:
    rows = [
        {
            "arm": d.arm,
            "regime_value": values[d.regime],
            "x": values[d.regime] + shift.get(d.arm, 0.0),
            "mean": d.value,
            "low": d.t[0] if d.t else None,
            "high": d.t[1] if d.t else None,
            "seeds": d.seeds,
        }
        for d in found
        if d.k == k
    ]
    floats = dict.fromkeys(("regime_value", "x", "mean", "low", "high"), pl.Float64)
    return pl.DataFrame(rows, schema={"arm": pl.String, **floats, "seeds": pl.Int64})
