"""The answer: what each arm reaches, which differences are significant, and one sentence that says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import polars as pl

from extra_rl.comparison import lines
from extra_rl.comparison.differences import significant
from extra_rl.config.comparisons import WARM_START
from extra_rl.evaluation.figures import MEAN
from extra_rl.report.curves import band
from extra_rl.report.sources import Cell, Sources
from extra_rl.report.text import MINUS, figure, signed

AT_ONCE = 6
"""Maximum number of differences that have a sentence below the answer; the tables have all."""


@dataclass(frozen=True)
class Difference:
    """An arm minus another, percentage points of pass@k, mean over benchmarks.

    t and bootstrap: 95 % intervals, None with one seed. problems: with one seed, the 95 % interval over problems
    (`problems.difference_intervals`). p and holm: sign-flip p and its Holm adjustment. named: whether
    the comparison was named before the run. significant: `comparison.differences.significant`.
    """

    regime: str
    arm: str
    base: str
    k: int
    value: float
    seeds: int
    t: tuple[float, float] | None = None
    bootstrap: tuple[float, float] | None = None
    p: float | None = None
    holm: float | None = None
    named: bool = False
    significant: bool = False
    problems: tuple[float, float] | None = None

    @property
    def label(self) -> str:
        """`regime: arm - base`, with a true minus sign."""
        return lines.label({"regime": self.regime, "arm": self.arm, "base": self.base}, MINUS)


def differences(sources: Sources) -> list[Difference]:
    """Return the rows `mean` of compare_differences.parquet; [] before compare has run."""
    return [
        Difference(
            regime=row["regime"] or "",
            arm=row["arm"],
            base=row["base"],
            k=row["k"],
            value=row["difference"],
            seeds=row["seeds"],
            t=_pair(row["t_low"], row["t_high"]),
            bootstrap=_pair(row["bootstrap_low"], row["bootstrap_high"]),
            p=row["p"],
            holm=row["p_holm"],
            named=row["named"],
            significant=significant(row),
        )
        for row in _rows(sources)
    ]


def _rows(sources: Sources) -> list[dict[str, Any]]:
    table = sources.table("compare_differences")
    return [] if table is None else table.filter(pl.col("benchmark") == MEAN).to_dicts()


def _pair(low: float | None, high: float | None) -> tuple[float, float] | None:
    return None if low is None or high is None else (low, high)


def by_regime(found: list[Difference], regimes: list[str]) -> list[dict[str, Any]]:
    """Return a row per named comparison: `comparison`, and `cells`, for each regime k -> Difference."""
    table: dict[str, dict[str, dict[int, Difference]]] = {}
    for d in found:
        if d.named:
            row = table.setdefault(f"{d.arm} {MINUS} {d.base}", {regime: {} for regime in regimes})
            row.setdefault(d.regime, {})[d.k] = d
    return [{"comparison": comparison, "cells": list(row.values())} for comparison, row in table.items()]


@dataclass(frozen=True)
class Score:
    """pass@k of one policy in percent, mean over benchmarks, then over seeds; sd over seeds, None for one seed.

    problems: with one seed, the 95 % interval over problems.
    """

    mean: float
    sd: float | None
    seeds: int
    problems: tuple[float, float] | None = None


def scores(evaluations: pl.DataFrame, ks: list[int]) -> dict[str, dict[int, Score]]:
    """Return folder of a cell (its final policies) or of a warm start -> k -> Score.

    evaluations: `collect.evaluations`.
    """
    wanted = evaluations.filter(
        pl.col("k").is_in(ks), pl.col("benchmark") == MEAN, pl.col("final") | (pl.col("seed") == -1)
    )
    found: dict[str, dict[int, Score]] = {}
    for (folder, k), part in wanted.sort("folder", "k", "seed").group_by("folder", "k", maintain_order=True):
        one = band(part["value"].to_list())
        sd = None if one["high"] is None else one["high"] - one["mean"]
        ends = _pair(part["low"][0], part["high"][0]) if one["seeds"] == 1 else None
        found.setdefault(str(folder), {})[int(str(k))] = Score(one["mean"], sd, one["seeds"], ends)
    return found


def ks_of(sources: Sources, evaluations: pl.DataFrame) -> list[int]:
    """Return the k of the comparison; before it has run, 1 and the maximum number of samples."""
    known = [int(k) for k in sources.section.get("ks", [])]
    most = evaluations["k"].max()
    return known or ([1] if most in (None, 1) else [1, int(str(most))])


def rows(
    sources: Sources,
    ks: list[int],
    found: dict[str, dict[int, Score]],
    over_problems: Mapping[tuple[str, str, int], tuple[float, float]] = MappingProxyType({}),
) -> list[dict[str, Any]]:
    """Return the table, warm starts first: a row per cell with its scores, and by k its difference to its base arm.

    over_problems: `problems.difference_intervals`.
    """
    base = sources.arms[0]
    against = {(d.regime, d.arm, d.k): d for d in differences(sources) if d.base == base}
    table: list[dict[str, Any]] = [
        {"cell": Cell(name, name.replace("_", " ")), "scores": found.get(name, {}), "against": {}}
        for name in sources.warm_starts
    ]
    for cell in sources.cells:
        mine = found.get(cell.folder, {})
        folder = f"{cell.regime}-{base}" if cell.regime else base
        other = found.get(folder, {})
        row: dict[str, Any] = {"cell": cell, "scores": mine, "against": {}}
        for k in ks:
            if cell.arm == base or k not in mine or k not in other:
                continue
            # before compare has run: the difference of the means, without an interval over seeds
            difference = against.get((cell.regime, cell.arm, k)) or Difference(
                cell.regime, cell.arm, base, k, mine[k].mean - other[k].mean, mine[k].seeds
            )
            row["against"][k] = replace(difference, problems=over_problems.get((cell.folder, folder, k)))
        table.append(row)
    return table


def sentence(sources: Sources) -> str:
    """Return one sentence: how many differences are significant, or why none can be tested."""
    if not sources.section:
        return "The run is not finished: its arms have not been compared yet."
    if len(sources.arms) == 1 and len(sources.regimes) == 1:
        return f"The run has one arm, {sources.arms[0]}, so there is nothing to compare."
    if len(sources.seeds) == 1:
        return "One seed cannot tell whether the arms differ."
    return lines.sentence([row for row in _rows(sources) if row["named"]], MINUS, listed=False)


def sentences(sources: Sources, table: list[dict[str, Any]]) -> list[str]:
    """Return one sentence for each difference: those named before the run, else those to the base arm.

    At most `AT_ONCE` of them, and how many more there are. table: `rows`.
    """
    shown = {(d.regime, d.arm, d.base, d.k): d for row in table for d in row["against"].values()}
    named = [shown.get((d.regime, d.arm, d.base, d.k), d) for d in differences(sources) if d.named]
    found = named or list(shown.values())
    more = len(found) - AT_ONCE
    return [
        *(in_words(d) for d in found[:AT_ONCE]),
        *([f"{more} more difference{'s are' if more > 1 else ' is'} in the tables."] if more > 0 else []),
    ]


def in_words(difference: Difference) -> str:
    """Return a difference as one sentence, with its interval and what that is over."""
    d = difference
    where = f"{d.regime}: " if d.regime else ""
    base = d.base.replace(WARM_START, "the warm start")
    size = figure(abs(round(d.value, 1)))
    points = "point" if size == "1.0" else "points"
    how = f"{size} {points} {'above' if d.value > 0 else 'below'}" if float(size) else "equal to"
    known = d.t or d.problems
    over = f"{d.seeds} seeds" if d.t else "problems, one seed"
    ends = f" (95 % interval {signed(known[0])} to {signed(known[1])} over {over})" if known else ""
    tested = "" if d.holm is None else ", which is significant" if d.significant else ", which is not significant"
    return f"{where}{d.arm} is {how} {base} at pass@{d.k}{ends}{tested}."
