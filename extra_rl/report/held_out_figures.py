"""Figures of evaluations: over training, by k, by benchmark."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from extra_rl.evaluation.figures import MEAN
from extra_rl.report import charts, curves
from extra_rl.report.figure import BANDS, Figure, Look, Panel, by_regime, label, warm_start_look
from extra_rl.report.sources import Sources


def over_training(sources: Sources, evaluations: pl.DataFrame, ks: list[int], arms: list[Look]) -> Iterator[Figure]:
    """Yield pass@k against sampled tokens, where policies were evaluated during training."""
    held_out = evaluations.filter(pl.col("benchmark") == MEAN)
    if held_out.filter(pl.col("seed") >= 0, ~pl.col("final")).is_empty():
        return  # the table already shows the final policies
    starts = held_out.filter(pl.col("seed") == -1)
    points = pl.concat(
        [
            held_out.filter(pl.col("seed") >= 0),
            *(
                starts.with_columns(folder=pl.lit(c.folder), arm=pl.lit(c.arm), regime=pl.lit(c.regime))
                for c in sources.cells
            ),
        ]
    ).sort("iteration", maintain_order=True)
    by = [*curves.PLACE, "iteration", "k"]
    means = in_percent(points, by).join(
        points.group_by(by, maintain_order=True).agg(pl.col("tokens").mean()), on=by, maintain_order="left"
    )
    yield Figure(
        "evaluations",
        "Evaluations",
        "Held-out pass@k against sampled tokens",
        f"Percent, mean over benchmarks; the first point is the warm start, the last the final policy. {BANDS} "
        "Source: evaluate_figures.parquet.",
        [
            Panel(
                label(sources, regime, f"pass@{k}"),
                charts.points(part.filter(k=k), ("tokens", "sampled tokens"), "percent", arms),
            )
            for regime, part in by_regime(sources, means)
            for k in ks
        ],
        arms,
    )


def pass_at_k(sources: Sources, evaluations: pl.DataFrame, arms: list[Look]) -> Iterator[Figure]:
    """Yield pass@k of the final policies against k."""
    finals = evaluations.filter(pl.col("benchmark") == MEAN, pl.col("final"))
    start = warm_start_look()
    starts = evaluations.filter(pl.col("benchmark") == MEAN, pl.col("seed") == -1).with_columns(arm=pl.lit(start.name))
    shown = [*arms, start]
    most = int(str(evaluations["k"].max() or 1))
    ticks = [k for k in (1, 2, 4, 8, 16, 32, 64, 128, 256) if k <= most]
    panels = []
    for regime, part in by_regime(sources, finals):
        rows = pl.concat([part, starts.with_columns(regime=pl.lit(regime))])
        means = in_percent(rows.sort("k", maintain_order=True), ["arm", "k"])
        spec = charts.points(means, ("k", "k (samples)"), "pass@k (%)", shown, log=True, x_values=ticks)
        panels.append(Panel(label(sources, regime), spec))
    yield Figure(
        "pass-at-k",
        "pass@k",
        "pass@k of the final policies, k = 1 to all samples",
        f"Unbiased estimate, mean over benchmarks. {BANDS} Source: evaluate_figures.parquet of the last "
        "iteration and of the warm start.",
        panels,
        shown,
    )


def benchmarks(sources: Sources, evaluations: pl.DataFrame, ks: list[int], arms: list[Look]) -> Iterator[Figure]:
    """Yield pass@k of the final policies per benchmark, for the smallest and the largest k."""
    small, large = ks[0], ks[-1]
    start = warm_start_look()
    finals = evaluations.filter(
        pl.col("benchmark") != MEAN, pl.col("k").is_in([small, large]), pl.col("final") | (pl.col("seed") == -1)
    ).with_columns(pl.col("arm").fill_null(start.name))
    panels = []
    for regime in sources.regimes:
        part = finals.filter((pl.col("regime") == regime) | (pl.col("seed") == -1))
        for (benchmark,), rows in part.sort("seed", maintain_order=True).group_by("benchmark", maintain_order=True):
            means = in_percent(rows, ["arm", "k"])
            panels.append(
                Panel(label(sources, regime, str(benchmark)), charts.bars(means, [start, *arms], (small, large)))
            )
    yield Figure(
        "benchmarks",
        "Benchmarks",
        f"pass@{small} (bar) and pass@{large} (tick) per benchmark",
        f"Final policies and the warm start. {BANDS} Source: evaluate_figures.parquet.",
        panels,
        small=True,
    )


def in_percent(rows: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """Return `curves.over_seeds` of percentages, with bands clipped to 0 .. 100."""
    return curves.over_seeds(rows, by, "value").with_columns(pl.col("low", "high").clip(0, 100))
