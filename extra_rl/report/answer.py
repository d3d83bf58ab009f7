"""The answer: what each arm reaches, which differences stand, and one sentence that says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from extra_rl.comparison.differences import stands
from extra_rl.comparison.lines import AT_ONCE
from extra_rl.evaluation.figures import MEAN
from extra_rl.report.curves import band
from extra_rl.report.numbers import interval, signed
from extra_rl.report.sources import Cell, Sources


@dataclass(frozen=True)
class Difference:
    """An arm less another, percentage points of pass@k, mean over benchmarks. Nulls where one seed gives no interval.

    t and bootstrap: 95 % intervals. holm: Holm-adjusted p of a comparison that was named before the run. stands: that
    is below 0.05 and both intervals are clear of zero (`comparison.differences.stands`).
    """

    regime: str
    arm: str
    base: str
    k: int
    value: float
    t: tuple[float, float] | None
    bootstrap: tuple[float, float] | None
    p: float | None
    holm: float | None
    seeds: int
    named: bool
    stands: bool = False

    @property
    def label(self) -> str:
        where = f"{self.regime}: " if self.regime else ""
        return f"{where}{self.arm} \u2212 {self.base}"


def differences(sources: Sources) -> list[Difference]:
    """Rows `mean` of compare_differences.parquet; [] before compare has run."""
    table = sources.table("compare_differences")
    if table is None:
        return []
    return [
        Difference(
            regime=row["regime"] or "",
            arm=row["arm"],
            base=row["base"],
            k=row["k"],
            value=row["difference"],
            t=_pair(row["t_low"], row["t_high"]),
            bootstrap=_pair(row["bootstrap_low"], row["bootstrap_high"]),
            p=row["p"],
            holm=row["p_holm"],
            seeds=row["seeds"],
            named=row["named"],
            stands=stands(row),
        )
        for row in table.filter(pl.col("benchmark") == MEAN).to_dicts()
    ]


def by_regime(found: list[Difference], regimes: list[str]) -> list[dict[str, Any]]:
    """A row a comparison that was named: `comparison`, and `cells`, for each regime k -> Difference."""
    table: dict[str, dict[str, dict[int, Difference]]] = {}
    for d in found:
        if d.named:
            row = table.setdefault(f"{d.arm} \u2212 {d.base}", {regime: {} for regime in regimes})
            row.setdefault(d.regime, {})[d.k] = d
    return [{"comparison": comparison, "cells": list(row.values())} for comparison, row in table.items()]


def _pair(low: float | None, high: float | None) -> tuple[float, float] | None:
    return None if low is None or high is None else (low, high)


@dataclass(frozen=True)
class Score:
    """pass@k of one policy: mean over benchmarks, then over seeds, percent; sd over seeds, None of one seed."""

    mean: float
    sd: float | None
    seeds: int


def scores(evaluations: pl.DataFrame, ks: list[int]) -> dict[str, dict[int, Score]]:
    """Folder of a cell (its final policies) or of a warm start -> k -> Score. evaluations: `collect.evaluations`."""
    wanted = evaluations.filter(
        pl.col("k").is_in(ks), pl.col("benchmark") == MEAN, pl.col("final") | (pl.col("seed") == -1)
    )
    found: dict[str, dict[int, Score]] = {}
    for (folder, k), part in wanted.sort("folder", "k", "seed").group_by("folder", "k", maintain_order=True):
        one = band(part["value"].to_list())
        sd = None if one["high"] is None else one["high"] - one["mean"]
        found.setdefault(str(folder), {})[int(str(k))] = Score(one["mean"], sd, one["seeds"])
    return found


def ks_of(sources: Sources, evaluations: pl.DataFrame) -> list[int]:
    """The k of the comparison; before it has run, 1 and the most samples that there are."""
    known = [int(k) for k in sources.section.get("ks", [])]
    most = evaluations["k"].max()
    return known or ([1] if most in (None, 1) else [1, int(str(most))])


def rows(sources: Sources, ks: list[int], found: dict[str, dict[int, Score]]) -> list[dict[str, Any]]:
    """The table: a row a cell with its scores, and against the base of its regime, by k; warm starts come first."""
    base = sources.arms[0]
    against = {(d.regime, d.arm, d.k): d for d in differences(sources) if d.base == base}
    table: list[dict[str, Any]] = [
        {"cell": Cell(name, name.replace("_", " ")), "scores": found.get(name, {}), "against": {}}
        for name in sources.warm_starts
    ]
    for cell in sources.cells:
        mine = found.get(cell.folder, {})
        other = found.get(f"{cell.regime}-{base}" if cell.regime else base, {})
        row: dict[str, Any] = {"cell": cell, "scores": mine, "against": {}}
        for k in ks:
            if cell.arm == base or k not in mine or k not in other:
                continue
            # Before compare has run: the plain difference of the means, no interval.
            row["against"][k] = against.get((cell.regime, cell.arm, k)) or Difference(
                cell.regime,
                cell.arm,
                base,
                k,
                mine[k].mean - other[k].mean,
                None,
                None,
                None,
                None,
                mine[k].seeds,
                False,
            )
        table.append(row)
    return table


def sentence(sources: Sources, table: list[dict[str, Any]]) -> str:
    """Which differences stand, in one sentence."""
    if not sources.section:
        return "The run is not finished: nothing can be said of its arms yet."
    if len(sources.arms) == 1 and len(sources.regimes) == 1:
        return f"One arm alone, {sources.arms[0]}: there is nothing to compare it with."
    if len(sources.seeds) == 1:
        shown = [d for row in table for d in row["against"].values()]
        first = f" Here {'; '.join(_said(d) for d in shown[:2])}." if shown else ""
        return f"One seed cannot tell whether the arms differ.{first}"
    all_named = [d for d in differences(sources) if d.named]
    if not all_named:
        return "No comparison was named before the run, so no difference can stand; those below are exploratory."
    standing = [d for d in all_named if d.stands]
    rule = "Holm-adjusted p below 0.05 and both intervals clear of zero"
    if not standing:
        least = (sources.summary.get("family") or {}).get("least_p_holm", 0.0)
        why = f", and none could: so many tests over so few seeds reach {least:.2g} at best" if least >= 0.05 else ""
        return f"None of the {len(all_named)} differences named before the run stands ({rule}){why}."
    verb = "stands" if len(standing) == 1 else "stand"
    count = f"{len(standing)} of the {len(all_named)} differences named before the run"
    return f"{count} {verb} ({rule}){_which(standing, [d for d in all_named if not d.stands])}."


def _which(standing: list[Difference], others: list[Difference]) -> str:
    """Those that stand; of many, what they are all but, where that is said sooner."""
    if len(standing) <= AT_ONCE:
        return f": {'; '.join(_said(d) for d in standing)}"
    if not others:
        return ""
    if len(others) <= AT_ONCE:
        return f"; all but {', '.join(_with_its_ks(label, others) for label in dict.fromkeys(d.label for d in others))}"
    return "; the table says which"


def _with_its_ks(label: str, found: list[Difference]) -> str:
    ks = " and ".join(f"pass@{d.k}" for d in found if d.label == label)
    return f"{label} ({ks})"


def _said(d: Difference) -> str:
    ends = f" {interval(d.t)}" if d.t else ""
    return f"{d.label} is {signed(d.value)}{ends} at pass@{d.k}"
