"""summary.json: the comparison for machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from extra_rl.comparison.budgets import Spent, costs
from extra_rl.comparison.differences import stands
from extra_rl.comparison.names import Policy
from extra_rl.config.comparisons import WARM_START
from extra_rl.statistics.holm import least_adjusted_p
from extra_rl.statistics.spread import mean_and_sd

SHOWN = ("regime", "arm", "base", "k")
FIGURES = ("difference", "sd", "t_low", "t_high", "bootstrap_low", "bootstrap_high", "p", "p_holm")


def summarise(
    table: pl.DataFrame,
    policies: Sequence[Policy],
    comparisons: Sequence[Mapping[str, Any]],
    spent: Mapping[str, Spent],
    root: Path,
) -> dict[str, object]:
    """`warm_start`, `arms` by folder, `comparisons` (the named ones, all benchmarks together), `family` of the tests.

    Figures are means over benchmarks (and seeds, and warm starts) in percent, per benchmark and per seed too; `sd` is
    over seeds. Seconds are sums over the stages of all seeds, evaluations included; `generated_tokens` is the sum over
    seeds; `budget` leaves evaluations out (`extra_rl.comparison.budgets`). table: rows of contracts.Comparison.
    """
    starts = [policy for policy in policies if policy.arm == WARM_START]
    arms = list(dict.fromkeys((p.folder, p.regime, p.arm) for p in policies if p.arm != WARM_START))
    start: dict[str, object] = _figures(table.filter(seed=-1)) | costs(root / policy.folder for policy in starts)
    if len(starts) > 1:
        start["per_warm_start"] = {str(p.number): _means(table.filter(policy=p.folder, seed=-1)) for p in starts}
    return {
        WARM_START: start,
        "arms": {folder: _arm(table, folder, regime, arm, spent, root) for folder, regime, arm in arms},
        "comparisons": [_comparison(row) for row in comparisons],
        "family": family(comparisons),
    }


def family(comparisons: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """How many tests Holm's correction covers, and the least p that it can reach with so few seeds; None of none."""
    tested = [row for row in comparisons if row["p_holm"] is not None]
    if not tested:
        return None
    seeds = min(row["seeds"] for row in tested)
    return {"tests": len(tested), "seeds": seeds, "least_p_holm": least_adjusted_p(seeds, len(tested))}


def _arm(
    table: pl.DataFrame, folder: str, regime: str, arm: str, spent: Mapping[str, Spent], root: Path
) -> dict[str, object]:
    mine = table.filter(pl.col("policy") == folder, pl.col("seed") >= 0)
    own = {label.partition("/s")[2]: of for label, of in spent.items() if label.partition("/s")[0] == folder}
    per_seed: dict[str, dict[str, Any]] = {
        str(seed): _means(mine.filter(seed=seed))
        | {"generated_tokens": own[str(seed)].tokens, "compute": own[str(seed)].compute}
        for seed in mine["seed"].unique(maintain_order=True).to_list()
    }
    total = Spent(sum(of.tokens for of in own.values()), sum(of.compute for of in own.values()))
    sd = {name: mean_and_sd(np.array([row[name] for row in per_seed.values()]))[1] for name in _means(mine)}
    return {
        **_figures(mine),
        "sd": {name: None if value is None else round(value, 4) for name, value in sd.items()},
        **({"regime": regime, "arm": arm} if regime else {}),
        "generated_tokens": total.tokens,
        **costs([root / folder], total),
        "seeds": [int(seed) for seed in per_seed],
        "per_seed": per_seed,
    }


def _comparison(row: Mapping[str, Any]) -> dict[str, Any]:
    figures = {name: None if row[name] is None else round(row[name], 4) for name in FIGURES}
    return {**{name: row[name] for name in SHOWN}, **figures, "seeds": row["seeds"], "stands": stands(row)}


def _means(table: pl.DataFrame) -> dict[str, float]:
    """`pass@k` -> mean over benchmarks and seeds, in percent."""
    return {
        f"pass@{k}": round(float(np.mean(part["pass_at_k"].to_numpy(), dtype=np.float64)), 4)
        for (k,), part in table.group_by("k", maintain_order=True)
    }


def _figures(table: pl.DataFrame) -> dict[str, object]:
    per_benchmark = {str(name): _means(part) for (name,), part in table.group_by("benchmark", maintain_order=True)}
    return {**_means(table), "benchmarks": per_benchmark}
