"""The figures of an evaluation as lines for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from extra_rl.evaluation.figures import MEAN


def table_lines(figures: pl.DataFrame) -> list[str]:
    """The figures for the terminal: a line a benchmark, the mean last, each rate with its 95 % interval."""
    k_max = max(figures["k"].to_list())
    columns = [("pass_at_k", k) for k in sorted({1, k_max})] + [("maj_at_k", k_max)]
    titles = [f"{metric.partition('_')[0]}@{k}" for metric, k in columns]
    header = f"{'benchmark':<16}{'problems':>9}" + "".join(f"{title:>22}" for title in titles)
    lines = [header + f"{'length':>9}{'cut off':>9}{'no answer':>11}"]
    for name in figures["benchmark"].unique(maintain_order=True).to_list():
        part = figures.filter(pl.col("benchmark") == name)
        found = {(row["metric"], row["k"]): row for row in part.iter_rows(named=True)}
        cells = "".join(f"{_interval(found.get(column)):>22}" for column in columns)
        length, cut, none = (_plain(found.get((metric, 0))) for metric in ("mean_length", "truncated", "no_answer"))
        lines.append(f"{name:<16}{max(part['problems'].to_list()):>9}{cells}{length:>9}{cut:>9}{none:>11}")
    excluded = max(figures.filter(pl.col("benchmark") == MEAN)["excluded"].to_list())
    return lines + ([f"{excluded} samples could not be judged and are left out (column excluded)"] if excluded else [])


def _interval(row: Mapping[str, Any] | None) -> str:
    return f"{row['value']:.1f} [{row['low']:.1f}, {row['high']:.1f}]" if row else "-"


def _plain(row: Mapping[str, Any] | None) -> str:
    return f"{row['value']:.1f}" if row else "-"
