"""The comparison at the terminal: figures, differences, budgets, and which differences stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from extra_rl.comparison.differences import stands
from extra_rl.comparison.summary import family
from extra_rl.config.comparisons import WARM_START
from extra_rl.statistics.spread import mean_and_sd

HEAD = ["", "", "difference", "sd", "t interval", "bootstrap", "p", "Holm p", "seeds"]
AT_ONCE = 6
"""Differences that one sentence names."""


def figure_lines(table: pl.DataFrame, ks: Sequence[int]) -> list[str]:
    """The comparison as lines: one per policy and k, one column per benchmark, the mean last."""
    benchmarks = table["benchmark"].unique(maintain_order=True).to_list()
    policies = table["policy"].unique(maintain_order=True).to_list()
    width = max(16, *(len(policy) + 1 for policy in policies))
    lines = ["", f"{'policy':<{width}}{'':<10}" + "".join(f"{b:>12}" for b in benchmarks) + f"{'mean':>9}"]
    for policy in policies:
        for k in ks:
            part = table.filter(policy=policy, k=k)
            cells = [float(np.mean(part.filter(benchmark=b)["pass_at_k"].to_numpy())) for b in benchmarks]
            mean = float(np.mean(cells))
            lines.append(
                f"{policy:<{width}}{f'pass@{k}':<10}" + "".join(f"{c:>12.1f}" for c in cells) + f"{mean:>9.1f}"
            )
    return lines


def spread_lines(seed_table: pl.DataFrame, benchmarks: Sequence[str]) -> list[str]:
    """Mean and sd over seeds of every arm and of where they started: a table a regime, and a k where there are several
    benchmarks. seed_table: contracts.SeedFigures."""
    ks = seed_table["k"].unique(maintain_order=True).to_list()
    tables = [[("mean", k) for k in ks]] if benchmarks == ["mean"] else [[(name, k) for name in benchmarks] for k in ks]
    lines = []
    for (regime,), part in seed_table.group_by("regime", maintain_order=True):
        arms = part["arm"].unique(maintain_order=True).to_list()
        for columns in tables:
            where = f"regime {regime}" if regime else ""
            head = [f"pass@{k}" if len(benchmarks) == 1 else name for name, k in columns]
            if len(benchmarks) > 1:
                where = f"{where} pass@{columns[0][1]}".strip()
            cells = [[where, *head, "seeds"]]
            cells.append(_spread_row("warm start", part.filter(arm=arms[0]), columns, "warm_start_pass_at_k"))
            cells += [_spread_row(arm, part.filter(arm=arm), columns, "pass_at_k") for arm in arms]
            lines += ["", *aligned(cells)]
    return lines


def _spread_row(name: str, rows: pl.DataFrame, columns: Sequence[tuple[str, int]], column: str) -> list[str]:
    """A warm start counts once, however many seeds began with it."""
    cells, seeds = [name], ""
    for benchmark, k in columns:
        part = rows.filter(benchmark=benchmark, k=k)
        if column == "pass_at_k":
            seeds = str(len(part))
        else:
            part = part.unique("warm_start", maintain_order=True)
        values = part[column].drop_nulls().to_numpy()
        mean, sd = mean_and_sd(values) if len(values) else (None, None)
        cells.append(number(mean) + ("" if sd is None else f" ± {sd:.1f}"))
    return [*cells, seeds]


def difference_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line a difference, in percentage points; rows of contracts.Differences."""
    cells = [HEAD]
    for row in rows:
        where = "" if row["benchmark"] == "mean" else f" {row['benchmark']}"
        cells.append(
            [
                f"{row['regime']}: " * bool(row["regime"])
                + f"{row['arm']} - {row['base'].replace(WARM_START, 'warm start')}",
                f"pass@{row['k']}{where}",
                number(row["difference"], signed=True),
                number(row["sd"]),
                interval(row["t_low"], row["t_high"]),
                interval(row["bootstrap_low"], row["bootstrap_high"]),
                number(row["p"], digits=4),
                number(row["p_holm"], digits=4),
                f"{row['seeds']}" + (f" in {row['blocks']} blocks" if row["blocks"] > 1 else ""),
            ]
        )
    return aligned(cells, left=2)


def named_lines(named: Sequence[Mapping[str, Any]]) -> list[str]:
    """The differences that were named before the run, and which of them stand; nothing where none was named."""
    if not named:
        return []
    return ["", "differences in percentage points, 95 % intervals", *difference_lines(named), "", sentence(named)]


def sentence(named: Sequence[Mapping[str, Any]]) -> str:
    """Which named differences stand: Holm p < 0.05, and both intervals clear of zero."""
    if not named:
        return "No difference was named before the run (compare.comparisons), so none is tested."
    tests = family(named)
    if tests is None:
        return "One seed: no interval and no p. Nothing can be said of differences between arms."
    standing = [row for row in named if stands(row)]
    rule = "Holm p < 0.05 and both intervals clear of zero"
    if len(standing) > AT_ONCE:
        others = [row for row in named if not stands(row)]
        which = f"; all but {'; '.join(map(_short, others))}" if others and len(others) <= AT_ONCE else ""
        return f"{len(standing)} of {len(named)} stand ({rule}){which}."
    if standing:
        return f"These stand ({rule}): " + "; ".join(map(_short, standing)) + "."
    if tests["least_p_holm"] >= 0.05:
        many = f"{tests['tests']} test{'s' * (tests['tests'] > 1)} over {tests['seeds']} seeds"
        return (
            f"None stands, and none could: {many} ha{'ve' if tests['tests'] > 1 else 's'} a Holm p of "
            f"{tests['least_p_holm']:.3g} at best. Run more seeds, or name fewer comparisons."
        )
    return f"No named difference stands ({rule})."


def _short(row: Mapping[str, Any]) -> str:
    where = f"{row['regime']}: " if row["regime"] else ""
    return f"{where}{row['arm']} - {row['base']}, pass@{row['k']} {number(row['difference'], signed=True)}"


def budget_lines(arms: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What each arm spent on all its seeds; `arms` of summary.json."""
    cells = [["", "sampled tokens", "TFLOP", "loss tokens", "CPU-s", "wall s", "tokens/CPU-s", "CPU-s of evaluations"]]
    for name, figures in arms.items():
        budget = figures["budget"]
        cells.append(
            [
                name,
                _whole(budget["sampled_tokens"]),
                number(budget["compute"] / 1e12),
                *(_whole(budget[key]) for key in ("loss_tokens", "compute_seconds", "wall_seconds")),
                _whole(budget["tokens_per_cpu_second"]),
                _whole(budget["looking_compute_seconds"]),
            ]
        )
    return aligned(cells)


def number(value: float | None, digits: int = 1, signed: bool = False) -> str:
    """A figure, or a hyphen for none. What rounds to zero is +0, never -0."""
    return "-" if value is None else f"{round(value, digits) + 0.0:{'+' if signed else ''}.{digits}f}"


def interval(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"{number(low, signed=True)} .. {number(high, signed=True)}"


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def aligned(cells: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Rows of a table as lines: the first `left` columns to the left, the rest to the right."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
