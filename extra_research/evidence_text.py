"""The comparison of an experiment's evidence as tables, for a terminal or as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from extra_research.evidence_comparison import Compared, Plan, ratios_of
from extra_rl.comparison.differences import significant
from extra_rl.comparison.evaluated import MEAN
from extra_rl.comparison.lines import aligned, amount, difference_cells, number, sentence
from extra_rl.config.comparisons import WARM_START
from extra_rl.report.spent import CURRENCIES, useful_rates
from extra_rl.statistics.intervals import mean_and_sd

Cells = list[list[str]]


@dataclass(frozen=True)
class Table:
    """A title, and rows of cells with the heading first. left: number of columns that are left-aligned."""

    title: str
    cells: Cells
    left: int = 1

    def lines(self, markdown: bool) -> list[str]:
        """Return the table as lines, after an empty one."""
        if not markdown:
            return ["", self.title, *aligned(self.cells, self.left)]
        head, *rows = [[cell.replace("|", "\\|") for cell in row] for row in self.cells]
        rule = ["---" if place < self.left else "---:" for place in range(len(head))]
        return ["", f"**{self.title}**", "", *(f"| {' | '.join(row)} |" for row in (head, rule, *rows))]


def lines_of(found: Compared, *, markdown: bool = False) -> list[str]:
    """Return every table: arms by regime, the named comparisons, and what arms spent relative to the base arm."""
    regimes = found.runs["regime"].unique(maintain_order=True).to_list()
    tables = [arms_table(found, regime) for regime in regimes]
    named = [row for row in found.differences if row["named"] and row["benchmark"] == MEAN]
    lines = coverage(found)
    for table in tables:
        lines += table.lines(markdown)
    if named:
        cells = [[*cells, said] for cells, said in zip(difference_cells(named), verdicts(named), strict=True)]
        title = "Comparisons named before the run: percentage points, 95 % intervals"
        lines += [*Table(title, cells, 2).lines(markdown), "", sentence(named)]
    return [*lines, *ratio_table(found).lines(markdown)]


def coverage(found: Compared) -> list[str]:
    """Return which part of the plan the evidence has, and on which machines it ran."""
    plan, runs = found.plan, found.runs
    machines = runs.group_by(pl.col("machine").fill_null("not named"), maintain_order=True).len()
    planned = len(plan.cells) * len(plan.start_of)
    starts = len(set(plan.start_of.values()))
    lines = [
        f"{plan.name}: {len(runs)} of {planned} runs ({len(plan.cells)} arms and regimes, {len(plan.start_of)} seeds "
        f"in {starts} block{'s' * (starts != 1)}). "
        f"Machines: {'; '.join(f'{name} ({count} runs)' for name, count in machines.iter_rows())}. "
        "Percent, mean ± sd over seeds."
    ]
    named = [row for row in found.differences if row["named"] and row["benchmark"] == MEAN]
    tests = planned_tests(plan)
    if named and (len(named) < tests or min(row["seeds"] for row in named) < len(plan.start_of)):
        fewest, most = (choose(row["seeds"] for row in named) for choose in (min, max))
        span = f"{fewest} to {most}" if fewest < most else str(most)
        lines += [
            "",
            f"Not all runs exist: {len(named)} of {tests} planned tests can be computed, with {span} of "
            f"{len(plan.start_of)} seeds.",
        ]
    if len(found.other_machines):
        lines += [
            "",
            f"{len(found.other_machines)} runs were made on another machine than the run of {plan.arms[0]} with their "
            "seed: their seconds are in no ratio.",
        ]
    return lines + (["", f"Left out, not in the configuration: {found.left_out}."] if found.left_out else [])


def planned_tests(plan: Plan) -> int:
    """Return the size of Holm's family when all runs exist: named pairs, in every regime of both arms, for every k."""
    places = {(cell.regime, cell.arm) for cell in plan.cells.values()}
    regimes = {regime for regime, _ in places}
    both = [
        pair
        for pair in plan.pairs
        for regime in regimes
        if {(regime, arm) for arm in (pair.arm, pair.base) if arm != WARM_START} <= places
    ]
    return len(both) * len(plan.ks)


def arms_table(found: Compared, regime: str) -> Table:
    """Return a row per arm: pass@k, useful groups per unit of cost, what became of groups, and what was spent."""
    plan, spent = found.plan, found.spent
    figures = found.seeds.filter(regime=regime, benchmark=MEAN)
    rates = useful_rates(spent).filter(regime=regime)
    kinds = ["continued", "rescued", "replayed", "of these mixed"]
    head = [
        *("", "seeds", *(f"pass@{k}" for k in plan.ks)),
        *("useful groups per 1,000 tokens", "per TFLOP", f"per {spent.one_second}"),
        *kinds,
        *("sampled tokens", "TFLOP", spent.seconds),
    ]
    starts = figures.unique(["warm_start", "k"], maintain_order=True)
    first = [_percent(starts.filter(k=k)["warm_start_pass_at_k"]) for k in plan.ks]
    cells = [head, ["warm start", str(starts["warm_start"].n_unique()), *first, *[""] * (len(head) - 2 - len(first))]]
    groups = ["regenerated_groups", "rescued_groups", "replayed_groups", "replayed_mixed"]
    for (arm,), runs in found.runs.filter(regime=regime).group_by("arm", maintain_order=True):
        mine = figures.filter(arm=arm)
        of_arm = spent.rows.filter(regime=regime, arm=arm)
        cells.append(
            [
                *(str(arm), str(len(runs)), *(_percent(mine.filter(k=k)["pass_at_k"]) for k in plan.ks)),
                *(_spread(rates.filter(arm=arm, what=what), amount) for what in CURRENCIES),
                *(amount(_mean(runs[name])) for name in groups),
                *(_amounts(of_arm["tokens"]), _amounts(of_arm["compute"] / 1e12), _amounts(of_arm["seconds"])),
            ]
        )
    value = f" ({plan.regimes[regime]:g})" if regime in plan.regimes else ""
    what = "pass@k in percent, groups per run, cost per run"
    return Table(f"Regime {regime}{value}: {what}" if regime else f"Arms: {what}", cells)


def ratio_table(found: Compared) -> Table:
    """Return a row per arm and regime: what a run spent, divided by the base arm's of the same regime and seed."""
    base = found.plan.arms[0]
    ratios = ratios_of(found).filter(pl.col("arm") != base)
    cells = [["", "sampled tokens", "TFLOP", found.spent.seconds, "seeds"]]
    for (folder, regime, arm), part in ratios.group_by("folder", "regime", "arm", maintain_order=True):
        name = f"{regime}: {arm}" if regime else str(folder)
        shown = [_spread(part.filter(what=what), "{:.2f}".format) for what in CURRENCIES]
        cells.append([name, *shown, str(part.filter(what="tokens")["seeds"].item())])
    return Table(f"Spending of each arm, times that of {base} with the same seed", cells)


def verdicts(named: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the column that tells which named differences are significant, with its heading."""
    return ["significant", *("yes" if significant(row) else "no" for row in named)]


def _percent(values: pl.Series) -> str:
    known = values.drop_nulls().to_numpy()
    mean, sd = mean_and_sd(known) if len(known) else (None, None)
    return number(mean) + ("" if sd is None else f" ± {sd:.1f}")


def _mean(values: pl.Series) -> float:
    return float(np.mean(values.to_numpy()))


def _amounts(values: pl.Series) -> str:
    """Return mean and sd of positive numbers; a hyphen where one is not known."""
    if values.null_count():
        return amount(None)
    mean, sd = mean_and_sd(values.to_numpy().astype(np.float64))
    return amount(mean) + ("" if sd is None else f" ± {amount(sd)}")


def _spread(part: pl.DataFrame, shown: Callable[[float], str]) -> str:
    """Return mean and sd of the one row of `report.curves.over_seeds`; a hyphen where there is none."""
    if part.is_empty():
        return "-"
    mean, high = part.select("mean", "high").row(0)
    return shown(mean) + ("" if high is None else f" ± {shown(high - mean)}")
