"""The first figures of a run with regimes: gain against starvation, what it cost, and useful groups per unit of cost.

An arm runs to one budget, so gains are at equal spending in one currency only. What an arm spent in the others stands
in the figure below the gains, and in the tooltip of each of its points.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from extra_rl.config.comparisons import WARM_START, named_pairs
from extra_rl.report import charts
from extra_rl.report.answer import Difference, differences
from extra_rl.report.figure import BANDS, Figure, Look, Panel, Spec
from extra_rl.report.sources import Sources
from extra_rl.report.spent import CURRENCIES, Spent, relative, useful_rates

COUNTED = "Sources: summarize.parquet of every iteration, run records."


@dataclass(frozen=True)
class Axis:
    """The common x axis: regimes evenly spaced, from the most starved to the best fed.

    base: first arm. values: regime -> its number. fed: regime -> useful groups of the base arm per 1,000 sampled
    tokens, where they are known.
    """

    base: str
    values: Mapping[str, float]
    fed: Mapping[str, float]

    @property
    def order(self) -> list[str]:
        """Return the regimes from left to right: by `fed`, and those without it last, by their numbers."""
        return sorted(self.values, key=lambda regime: (self.fed.get(regime, float("inf")), self.values[regime]))

    def points(self, rows: pl.DataFrame, y_title: str, looks: Sequence[Look], **options: Any) -> Spec:
        """Return the chart of rows with arm, regime, mean, low, high, seeds, the arms of a regime side by side.

        Args:
            rows: to be shown.
            y_title: title of the y axis.
            looks: of the arms.
            options: of `charts.points`.
        """
        order = self.order
        placed = rows.with_columns(
            where=pl.col("regime"),
            value=pl.col("regime").replace_strict(self.values, return_dtype=pl.Float64),
            x=charts.side_by_side("regime", order, looks),
        )
        rates = [f"{self.fed[name]:.2g}" if name in self.fed else "not known" for name in order]
        labels = [[rate, name, f"({self.values[name]:g})"] for rate, name in zip(rates, order, strict=True)]
        x = ("x", f"useful groups of {self.base} per 1,000 tokens; regime")
        shown = {"where:N": "regime", "value:Q": "value of the regime"} | options.pop("shown", {})
        return charts.points(placed, x, y_title, looks, places=labels, shown=shown, **options)


@dataclass(frozen=True)
class Grid:
    """What the figures show.

    axis: common to them. found: differences. ratios, rates: `spent.relative` and `spent.useful_rates`. ks: of pass@k.
    arms: looks; the first is the base. names: currency -> its name. second: `second_base`.
    """

    axis: Axis
    found: Sequence[Difference]
    ratios: pl.DataFrame
    rates: pl.DataFrame
    ks: Sequence[int]
    arms: Sequence[Look]
    names: Mapping[str, str]
    second: str | None

    @property
    def rivals(self) -> list[Look]:
        """Return the looks of all arms but the base."""
        return [look for look in self.arms if look.name != self.axis.base]

    def gains(self, over: str, k: int) -> pl.DataFrame:
        """Return the differences of the rivals to an arm: arm, regime, mean, low, high, seeds. over: which arm."""
        rivals = {look.name for look in self.rivals}
        rows = [
            (d.arm, d.regime, d.value, *(d.t or (None, None)), d.seeds)
            for d in self.found
            if d.base == over and d.k == k and d.arm in rivals  # an initial policy may be compared too
        ]
        floats = dict.fromkeys(("mean", "low", "high"), pl.Float64)
        schema = {"arm": pl.String, "regime": pl.String, **floats, "seeds": pl.Int64}
        return pl.DataFrame(rows, schema=schema, orient="row")


def figures(
    sources: Sources, spent: Spent, sections: Mapping[str, Mapping[str, Any]], ks: Sequence[int], arms: Sequence[Look]
) -> Iterator[Figure]:
    """Yield the gain against starvation, its cost, the useful groups per unit of cost, and the gain to scale.

    Args:
        sources: of the run.
        spent: `spent.by_seed`.
        sections: cell -> stage -> resolved section.
        ks: of pass@k.
        arms: looks of all arms; the first is the base.
    """
    base, values = sources.arms[0], sources.values
    if len(values) < 2:
        return
    rates = useful_rates(spent).filter(pl.col("regime").is_in(list(values)))
    ratios = relative(spent, base).filter(pl.col("regime").is_in(list(values)))
    fed = dict(rates.filter(arm=base, what="tokens").select("regime", "mean").iter_rows())
    grid = Grid(
        Axis(base, values, fed),
        [d for d in differences(sources) if d.regime in values],
        ratios,
        rates,
        ks,
        arms,
        {"tokens": "sampled tokens", "compute": "TFLOP", "seconds": spent.seconds},
        second_base(sources),
    )
    yield gain(grid, equal_in(sections))
    yield what_it_cost(grid)
    yield useful(grid, spent.one_second)
    yield to_scale(grid)


def gain(grid: Grid, budget: str) -> Figure:
    """Return the gain over the base, and over the second one, by regime. budget: `equal_in`."""
    base, second = grid.axis.base, grid.second
    costs = grid.ratios.pivot("what", index=["arm", "regime"], values="mean")
    shown = {f"{what}:Q": f"{name}, times {base}" for what, name in grid.names.items() if what in costs.columns}
    panels = []
    for over in (base, *([second] if second else [])):
        for k in grid.ks:
            rows = grid.gains(over, k).join(costs, on=["arm", "regime"], how="left", maintain_order="left")
            if not rows.is_empty():
                spec = grid.axis.points(rows, "percentage points", grid.rivals, line=0, shown=shown)
                panels.append(Panel(f"over {over}, pass@{k}" if second else f"pass@{k}", spec))
    also = f", and over {second}, which most other named comparisons have as base" if second else ""
    return Figure(
        "gain",
        "Gain against starvation",
        f"Gain over {base} against the useful groups that {base} finds",
        f"Gain over {base}{also}: percentage points, mean over benchmarks and seeds, with 95 % t intervals blocked by "
        f"warm start. From left to right {base} finds more useful groups. Below the number of these stand the regime "
        f"and its value. Points of one regime are drawn side by side. {budget} What each arm spent in every currency "
        "is in the next figure. Sources: compare_differences.parquet, summarize.parquet of every iteration.",
        panels,
        grid.rivals,
    )


def what_it_cost(grid: Grid) -> Figure:
    """Return the spending of every arm in every currency, relative to the base, by regime."""
    base = grid.axis.base
    ratios = grid.ratios.filter(pl.col("arm") != base)
    return Figure(
        "cost",
        "What the gain cost",
        f"What each arm spent, relative to {base}",
        f"Sampled tokens, TFLOP, and {grid.names['seconds']} of the stages that train, divided by those of {base} in "
        f"the same regime and with the same seed. At the dashed line an arm spends as much as {base}. Regimes as "
        f"above. {BANDS} {COUNTED}",
        [
            Panel(grid.names[what], grid.axis.points(part, f"times {base}", grid.rivals, line=1))
            for what in CURRENCIES
            if not (part := ratios.filter(what=what)).is_empty()
        ],
        grid.rivals,
        small=True,
    )


def useful(grid: Grid, one_second: str) -> Figure:
    """Return useful groups per unit of every currency, and rescued groups, by regime. one_second: its name."""
    titles = {
        "tokens": ("useful groups per 1,000 tokens", "per 1,000 tokens"),
        "compute": ("useful groups per TFLOP", "per TFLOP"),
        "seconds": (f"useful groups per {one_second}", f"per {one_second}"),
        "rescued": ("rescued groups per 1,000 tokens", "per 1,000 tokens"),
    }
    return Figure(
        "useful",
        "Useful groups",
        "Useful groups per unit of cost, and rescued groups",
        "Useful groups: their rewards differ and the update learns from them; continuations and replayed groups count "
        f"as well. Rescued groups: with a correct continuation. Regimes as above. {BANDS} {COUNTED}",
        [
            Panel(title, grid.axis.points(part, unit, grid.arms))
            for what, (title, unit) in titles.items()
            if not (part := grid.rates.filter(what=what)).is_empty()
        ],
        list(grid.arms),
        small=True,
    )


def to_scale(grid: Grid) -> Figure:
    """Return the gain over the base with its useful groups as a number, without intervals: a regime's arms share x."""
    base = grid.axis.base
    fed = pl.DataFrame(list(grid.axis.fed.items()), schema={"regime": pl.String, "useful": pl.Float64}, orient="row")
    x = ("useful", "useful groups per 1,000 tokens")
    panels = []
    for k in grid.ks:
        rows = grid.gains(base, k).join(fed, on="regime", how="inner", maintain_order="left")
        if not rows.is_empty():
            unbounded = rows.with_columns(low=pl.lit(None, pl.Float64), high=pl.lit(None, pl.Float64))
            spec = charts.points(unbounded, x, "percentage points", grid.rivals, root=True, line=0)
            panels.append(Panel(f"pass@{k}", spec))
    return Figure(
        "starvation",
        "Gain to scale",
        f"The same gains over {base}, with its useful groups to scale",
        f"x: useful groups of {base} per 1,000 sampled tokens, on a square-root axis. Each arm has one point per "
        "regime; its interval is in the first figure. Sources: compare_differences.parquet, summarize.parquet of every "
        "iteration.",
        panels,
        grid.rivals,
    )


def second_base(sources: Sources) -> str | None:
    """Return the arm other than the first that most named comparisons have as base; None where none has one."""
    pairs = named_pairs(sources.section.get("comparisons", []))
    counts = Counter(pair.base for pair in pairs if pair.base not in (WARM_START, sources.arms[0]))
    return max(counts, key=lambda name: counts[name]) if counts else None


def equal_in(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """Return in which currency the arms spent the same, as a sentence. sections: cell -> stage -> resolved section."""
    selects = [of["select"] for of in sections.values() if "select" in of]
    found = {(of.get("token_budget"), of.get("compute_budget")) for of in selects}
    if len(found) > 1:
        return "The budgets of the arms differ."
    tokens, flop = found.pop() if found else (None, None)
    if tokens and flop:
        return f"Every arm sampled until it had spent {tokens:,} tokens or {flop:.3g} FLOP."
    if tokens:
        return f"Every arm sampled until it had spent {tokens:,} tokens: the gains are at equal sampled tokens only."
    if flop:
        return f"Every arm sampled until it had spent {flop:.3g} FLOP: the gains are at equal compute only."
    return "No budget was set: the arms ran for equally many iterations, and may have spent different amounts."
