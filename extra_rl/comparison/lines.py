"""The comparison at the terminal: figures, differences, and which differences are significant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from extra_rl.comparison.differences import LEVEL, significant
from extra_rl.comparison.summary import family
from extra_rl.config.comparisons import WARM_START
from extra_rl.statistics.intervals import mean_and_sd

HEAD = ["", "", "difference", "sd", "t interval", "bootstrap", "p", "Holm p", "seeds"]
RULE = "Holm-adjusted p below 0.05 and both intervals exclude zero"
AT_ONCE = 6
"""Maximum number of differences that a sentence lists."""


def figure_lines(table: pl.DataFrame, ks: Sequence[int]) -> list[str]:
    """Return one line per policy and k, with one column per benchmark and the mean last."""
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
    """Return mean and sd over seeds of every arm and of the warm starts, as one table per regime.

    With several benchmarks there is one table per regime and k. seed_table: contracts.SeedFigures.
    """
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
    """Return a row of `spread_lines`. A warm start counts once, however many seeds began with it."""
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
    """Return one line per difference, in percentage points. rows: contracts.Differences."""
    return aligned(difference_cells(rows), left=2)


def difference_cells(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return the table of `difference_lines` as cells, the heading first."""
    cells = [HEAD]
    for row in rows:
        where = "" if row["benchmark"] == "mean" else f" {row['benchmark']}"
        cells.append(
            [
                label(row),
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
    return cells


def named_lines(named: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the differences named before the run and which are significant; [] where none was named."""
    if not named:
        return []
    return ["", "differences in percentage points, 95 % intervals", *difference_lines(named), "", sentence(named)]


def sentence(named: Sequence[Mapping[str, Any]], minus: str = "-", *, listed: bool = True) -> str:
    """Return one sentence that lists the significant differences, or says why there is none.

    Args:
        named: rows of contracts.Differences that were named before the run, mean over benchmarks.
        minus: the minus sign, which a web page can write as U+2212.
        listed: name the significant differences, instead of only counting them.
    """
    if not named:
        return (
            "No comparison was named before the run (compare.comparisons), so no difference is tested; those shown are "
            "exploratory."
        )
    tests = family(named)
    if tests is None:
        return (
            "Every comparison has one seed, which gives no interval and no p: differences between the arms cannot be "
            "tested. Run more seeds."
        )
    found = [row for row in named if significant(row)]
    others = [row for row in named if not significant(row)]
    one = len(named) == 1
    if not found:
        subject = (
            "The difference named before the run is not significant"
            if one
            else f"None of the {len(named)} differences named before the run is significant"
        )
        if tests["least_p_holm"] < LEVEL:
            return f"{subject} ({RULE})."
        several = tests["tests"] > 1
        return (
            f"{subject}, and none could be: {tests['tests']} test{'s' * several} over {tests['seeds']} seeds "
            f"reach{'es' * (not several)} a Holm-adjusted p of {tests['least_p_holm']:.2g} at best. Run more seeds, or "
            "name fewer comparisons."
        )
    subject = "The difference" if one else f"{len(found)} of the {len(named)} differences"
    verb = "is" if len(found) == 1 else "are"
    return (
        f"{subject} named before the run {verb} significant ({RULE}){_which(found, others, minus) if listed else ''}."
    )


def _which(found: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]], minus: str) -> str:
    """Return the list of significant differences; of many, the list of those that are not, where it is short."""
    if len(found) <= AT_ONCE:
        return f": {'; '.join(described(row, minus) for row in found)}"
    if others and len(others) <= AT_ONCE:
        ks: dict[str, list[str]] = {}
        for row in others:
            ks.setdefault(label(row, minus), []).append(f"pass@{row['k']}")
        return "; all but " + ", ".join(f"{name} ({' and '.join(of)})" for name, of in ks.items())
    return "; see the table" if others else ""


def label(row: Mapping[str, Any], minus: str = "-") -> str:
    """Return `regime: arm - base`."""
    where = f"{row['regime']}: " if row["regime"] else ""
    return f"{where}{row['arm']} {minus} {row['base'].replace(WARM_START, 'warm start')}"


def described(row: Mapping[str, Any], minus: str = "-") -> str:
    """Return a difference in words, with its t interval where there is one."""
    known = row["t_low"] is not None and row["t_high"] is not None
    ends = f" [{number(row['t_low'], signed=True)}, {number(row['t_high'], signed=True)}]" if known else ""
    value = f"{number(row['difference'], signed=True)}{ends}".replace("-", minus)
    return f"{label(row, minus)} is {value} at pass@{row['k']}"


def number(value: float | None, digits: int = 1, signed: bool = False) -> str:
    """Return a figure, or a hyphen for None. A signed figure that rounds to zero has no sign."""
    if value is None:
        return "-"
    rounded = round(value, digits) + 0.0  # + 0.0 turns -0.0 into 0.0
    return f"{rounded:{'+' if signed and rounded else ''}.{digits}f}"


def amount(value: float | None) -> str:
    """Return a positive number with three digits, whole from 100 on: `0.0123`, `12.3`, `12,345`; a hyphen for None."""
    return "-" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def interval(low: float | None, high: float | None) -> str:
    """Return `low .. high` with signs, or a hyphen where there is no interval."""
    return "-" if low is None or high is None else f"{number(low, signed=True)} .. {number(high, signed=True)}"


def aligned(cells: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Return the rows of a table as lines: the first `left` columns left-aligned, the others right-aligned."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
