"""summary.json: the comparison for machines, with what each arm spent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from extra_rl.comparison.differences import significant
from extra_rl.comparison.figures import Policy
from extra_rl.comparison.spending import Spending, Spent, budget_of, spending_of, sum_of_costs, together
from extra_rl.config.comparisons import WARM_START
from extra_rl.run.records import SECONDS, cost, kind_of_seconds, records
from extra_rl.statistics.intervals import mean_and_sd
from extra_rl.statistics.significance import least_adjusted_p

SHOWN = ("regime", "arm", "base", "k")
FIGURES = ("difference", "sd", "t_low", "t_high", "bootstrap_low", "bootstrap_high", "p", "p_holm")


def summarise(
    table: pl.DataFrame,
    policies: Sequence[Policy],
    comparisons: Sequence[Mapping[str, Any]],
    spent: Mapping[str, Spent],
    root: Path,
) -> dict[str, object]:
    """Return `warm_start`, `arms`, `comparisons` (named, mean over benchmarks), `family` of the tests, and `seconds`.

    Figures are means over benchmarks (and seeds, and warm starts) in percent, also per benchmark and per seed; `sd` is
    over seeds. `wall_seconds`, `compute_seconds` (CPU) and `device_seconds` of an arm are sums over the stages of all
    seeds, evaluations included, measured in the stages' processes: their start is not included. `budget` (`budget_of`)
    and `per_seed` exclude evaluations. `generated_tokens` is the sum over seeds. `seconds` names the key of the seconds
    in which arms are compared (`key`), and what it is called (`name`).

    Args:
        table: rows of contracts.Comparison.
        policies: all evaluated policies.
        comparisons: rows of contracts.Differences.
        spent: label `<folder>/s<seed>` -> tokens and compute.
        root: the results folder, for the run records.
    """
    starts = [policy for policy in policies if policy.arm == WARM_START]
    arms = list(dict.fromkeys((p.folder, p.regime, p.arm) for p in policies if p.arm != WARM_START))
    of_starts = [row for policy in starts for row in records(root / policy.folder, "**/*.run.json")]
    start: dict[str, object] = _figures(table.filter(seed=-1)) | cost(of_starts)
    spendings = {label: spending_of(root / label, of) for label, of in spent.items()}
    kind = kind_of_seconds(of.training for of in spendings.values())
    if len(starts) > 1:
        start["per_warm_start"] = {str(p.number): _means(table.filter(policy=p.folder, seed=-1)) for p in starts}
    return {
        WARM_START: start,
        "arms": {folder: _arm(table, folder, regime, arm, spendings, kind) for folder, regime, arm in arms},
        "comparisons": [_comparison(row) for row in comparisons],
        "family": family(comparisons),
        "seconds": {"key": kind, "name": SECONDS[kind]},
    }


def family(comparisons: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the number of tests in Holm's family, the seeds of the largest test, and the smallest p it can reach.

    None where no test was named.
    """
    tested = [row for row in comparisons if row["p_holm"] is not None]
    if not tested:
        return None
    seeds = max(row["seeds"] for row in tested)
    return {"tests": len(tested), "seeds": seeds, "least_p_holm": least_adjusted_p(seeds, len(tested))}


def _arm(
    table: pl.DataFrame, folder: str, regime: str, arm: str, spendings: Mapping[str, Spending], kind: str
) -> dict[str, object]:
    mine = table.filter(pl.col("policy") == folder, pl.col("seed") >= 0)
    own = {label.partition("/s")[2]: of for label, of in spendings.items() if label.partition("/s")[0] == folder}
    per_seed: dict[str, dict[str, Any]] = {
        str(seed): {
            **_means(mine.filter(seed=seed)),
            "generated_tokens": own[str(seed)].spent.tokens,
            "compute": own[str(seed)].spent.compute,
            **own[str(seed)].rates(kind),
            **own[str(seed)].training,
        }
        for seed in mine["seed"].unique(maintain_order=True).to_list()
    }
    total = together(list(own.values()))
    sd = {name: mean_and_sd(np.array([row[name] for row in per_seed.values()]))[1] for name in _means(mine)}
    return {
        **_figures(mine),
        "sd": {name: None if value is None else round(value, 4) for name, value in sd.items()},
        **({"regime": regime, "arm": arm} if regime else {}),
        "generated_tokens": total.spent.tokens,
        **sum_of_costs([total.training, total.measuring]),
        "budget": budget_of(total, kind),
        "seeds": [int(seed) for seed in per_seed],
        "per_seed": per_seed,
    }


def _comparison(row: Mapping[str, Any]) -> dict[str, Any]:
    figures = {name: None if row[name] is None else round(row[name], 4) for name in FIGURES}
    return {**{name: row[name] for name in SHOWN}, **figures, "seeds": row["seeds"], "significant": significant(row)}


def _means(table: pl.DataFrame) -> dict[str, float]:
    """Return `pass@k` -> mean over benchmarks and seeds, in percent."""
    return {
        f"pass@{k}": round(float(np.mean(part["pass_at_k"].to_numpy(), dtype=np.float64)), 4)
        for (k,), part in table.group_by("k", maintain_order=True)
    }


def _figures(table: pl.DataFrame) -> dict[str, object]:
    per_benchmark = {str(name): _means(part) for (name,), part in table.group_by("benchmark", maintain_order=True)}
    return {**_means(table), "benchmarks": per_benchmark}
