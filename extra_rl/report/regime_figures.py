"""The first figures of a run with regimes: gain over the base arm, useful and rescued groups, by regime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import polars as pl

from extra_rl.report import charts, curves
from extra_rl.report.answer import Difference, differences
from extra_rl.report.figure import BANDS, Figure, Look, Panel
from extra_rl.report.sources import Sources

WIDTH = 0.7
"""Share of the distance between two regimes over which the points of one regime's arms are spread."""
FED = ("useful", "useful groups per 1,000 tokens")


def figures(sources: Sources, iterations: pl.DataFrame, ks: list[int], arms: list[Look]) -> Iterator[Figure]:
    """Yield the gain over the base arm by regime and by useful groups, and the useful groups by regime."""
    values = sources.values
    if len(values) < 2:
        return
    base = sources.arms[0]
    rivals = [look for look in arms if look.name != base]
    against = [d for d in differences(sources) if d.base == base and d.regime in values]
    by_k = {k: _gains(against, k) for k in ks if any(d.k == k for d in against)}
    order = sorted(values, key=lambda regime: values[regime])
    step = WIDTH / max(len(rivals), 1)
    shift = {look.name: (place - (len(rivals) - 1) / 2) * step for place, look in enumerate(rivals)}
    draw = partial(charts.points, places=[[f"{values[r]:g}", r] for r in order], shown="regime_value")
    yield Figure(
        "gain",
        "Gain by regime",
        f"Gain over {base} against the value of the regime",
        "Percentage points, mean over benchmarks and seeds, with 95 % t intervals blocked by warm start. Points of one "
        "regime are drawn side by side. Source: compare_differences.parquet.",
        [
            Panel(f"pass@{k}", draw(_placed(gains, values, shift), ("x", "regime"), "points", rivals, zero=True))
            for k, gains in by_k.items()
        ],
        rivals,
    )
    rates = curves.per_thousand_tokens(iterations)
    fed = rates.filter(arm=base, what="mixed").select("regime", useful="mean")
    yield Figure(
        "starvation",
        "Gain by useful groups",
        f"Gain over {base} against the useful groups that {base} finds",
        f"x: groups of {base} that are neither all incorrect nor all correct, per 1,000 sampled tokens, on a "
        "square-root axis. Each arm has one point per regime; its interval is in the figure above. "
        "Sources: compare_differences.parquet, summarize.parquet of every iteration.",
        [
            Panel(
                f"pass@{k}",
                charts.points(_fed(gains, fed), FED, "points", rivals, root=True, zero=True),
            )
            for k, gains in by_k.items()
        ],
        rivals,
    )
    shift[base] = -len(arms) / 2 * step
    rates = _placed(rates, values, shift)
    titles = {"mixed": "useful groups (mixed)", "rescued": "rescued groups"}
    yield Figure(
        "useful",
        "Useful groups",
        "Useful and rescued groups per 1,000 sampled tokens, by regime",
        "Fresh groups that are neither all incorrect nor all correct, and groups with a correct continuation. "
        f"{BANDS} Source: summarize.parquet of every iteration.",
        [
            Panel(title, draw(rates.filter(what=what), ("x", "regime"), "per 1,000 tokens", arms))
            for what, title in titles.items()
        ],
        arms,
    )


def _fed(gains: pl.DataFrame, fed: pl.DataFrame) -> pl.DataFrame:
    """Return gains with the useful groups of the base arm as x, without intervals: a regime's arms share one x."""
    unbounded = gains.with_columns(low=pl.lit(None, pl.Float64), high=pl.lit(None, pl.Float64))
    return unbounded.join(fed, on="regime", how="inner", maintain_order="left")


def _placed(rows: pl.DataFrame, values: Mapping[str, float], shift: dict[str, float]) -> pl.DataFrame:
    """Return rows with `regime_value`, and x: the rank of the regime's value plus the arm's shift."""
    place = {regime: float(n) for n, regime in enumerate(sorted(values, key=lambda regime: values[regime]))}
    regime = pl.col("regime")
    return rows.with_columns(
        regime_value=regime.replace_strict(values, return_dtype=pl.Float64),
        x=regime.replace_strict(place, return_dtype=pl.Float64) + pl.col("arm").replace_strict(shift, default=0.0),
    )


def _gains(found: list[Difference], k: int) -> pl.DataFrame:
    rows = [
        {
            "arm": d.arm,
            "regime": d.regime,
            "mean": d.value,
            "low": d.t[0] if d.t else None,
            "high": d.t[1] if d.t else None,
            "seeds": d.seeds,
        }
        for d in found
        if d.k == k
    ]
    floats = dict.fromkeys(("mean", "low", "high"), pl.Float64)
    return pl.DataFrame(rows, schema={"arm": pl.String, "regime": pl.String, **floats, "seeds": pl.Int64})
