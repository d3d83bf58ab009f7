"""summary.json: the comparison for machines, with what each arm spent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from extra_rl.comparison.differences import significant
from extra_rl.comparison.figures import Policy
from extra_rl.config.comparisons import WARM_START
from extra_rl.run.records import cost, records
from extra_rl.statistics.intervals import mean_and_sd
from extra_rl.statistics.significance import least_adjusted_p

SHOWN = ("regime", "arm", "base", "k")
MEASURING = ("evaluate", "audit")
"""Stages that measure a run without being part of its training."""
FIGURES = ("difference", "sd", "t_low", "t_high", "bootstrap_low", "bootstrap_high", "p", "p_holm")


class Spent(NamedTuple):
    """Sampled tokens and compute (FLOP) of one seed of an arm, from the last row of `summarize`."""

    tokens: int
    compute: float


def summarise(
    table: pl.DataFrame,
    policies: Sequence[Policy],
    comparisons: Sequence[Mapping[str, Any]],
    spent: Mapping[str, Spent],
    root: Path,
) -> dict[str, object]:
    """Return `warm_start`, `arms` by folder, `comparisons` (named, mean over benchmarks) and the `family` of the tests.

    Figures are means over benchmarks (and seeds, and warm starts) in percent, also per benchmark and per seed; `sd` is
    over seeds. Seconds are sums over the stages of all seeds, evaluations included; `generated_tokens` is the sum over
    seeds; `budget` excludes evaluations (`costs`).

    Args:
        table: rows of contracts.Comparison.
        policies: all evaluated policies.
        comparisons: rows of contracts.Differences.
        spent: label `<folder>/s<seed>` -> tokens and compute.
        root: the results folder, for the run records.
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
    """Return the number of tests in Holm's family, the seeds of the largest test, and the smallest p it can reach.

    None where no test was named.
    """
    tested = [row for row in comparisons if row["p_holm"] is not None]
    if not tested:
        return None
    seeds = max(row["seeds"] for row in tested)
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


def costs(folders: Iterable[Path], spent: Spent | None = None) -> dict[str, Any]:
    """Return the seconds of all stages below the folders, and `budget`: those without evaluations and second judges.

    Seconds are sums over all seeds and stages, measured in the stages' processes: their start is not included.
    `loss_tokens` is the sum of the denominators of all optimizer steps (`update.loss_tokens`), None without an update.
    `useful_groups` are those whose rewards differ (`summarize`), also per 1,000 sampled tokens and per 10^12 FLOP;
    `embedding_compute`: FLOP of the novelty measure's embeddings, not part of `compute`, None where not known.
    `tokens_per_cpu_second` is sampled tokens per CPU-second of the stages, None without any. `measuring_...` are the
    seconds of evaluations and second judges.

    Args:
        folders: folders of run records.
        spent: of all seeds together; None for a warm start, which has no `budget`.
    """
    folders = list(folders)
    rows = [row for folder in folders for row in records(folder, "**/*.run.json")]
    total = cost(rows)
    if spent is None:
        return total
    training = cost(row for row in rows if row.get("stage") not in MEASURING)
    measuring = cost(row for row in rows if row.get("stage") in MEASURING)
    cpu = training["compute_seconds"]
    budget = {
        "sampled_tokens": spent.tokens,
        "compute": spent.compute,
        "loss_tokens": loss_tokens(folders),
        **spent_usefully(folders, spent),
        **training,
        "tokens_per_cpu_second": round(spent.tokens / cpu, 3) if cpu else None,
        **{f"measuring_{name}": seconds for name, seconds in measuring.items()},
    }
    return {**total, "budget": budget}


def spent_usefully(folders: Iterable[Path], spent: Spent) -> dict[str, float | None]:
    """Return useful groups, also per 1,000 sampled tokens and 10^12 FLOP, and the compute of embeddings.

    Sums over all iterations below the folders; None without a summary of an iteration.
    """
    files = [path for folder in folders for path in sorted(folder.glob("s*/iteration_*/summarize.parquet"))]
    columns = ["useful_groups", "embedding_compute"]
    rows = [pl.read_parquet(path, columns=columns, glob=False) for path in files]
    table = pl.concat(rows) if rows else None
    useful = None if table is None else int(table["useful_groups"].sum())
    known = table is not None and not table["embedding_compute"].null_count()
    return {
        "useful_groups": useful,
        "useful_per_1000_tokens": round(1e3 * useful / spent.tokens, 4)
        if useful is not None and spent.tokens
        else None,
        "useful_per_tflop": round(1e12 * useful / spent.compute, 4) if useful is not None and spent.compute else None,
        "embedding_compute": float(table["embedding_compute"].sum()) if table is not None and known else None,
    }


def loss_tokens(folders: Iterable[Path]) -> int | None:
    """Return the number of tokens in the losses of all optimizer steps below the folders."""
    files = [path for folder in folders for path in sorted(folder.glob("s*/iteration_*/update.parquet"))]
    if not files:
        return None
    return int(sum(pl.read_parquet(path, columns=["loss_tokens"], glob=False)["loss_tokens"].sum() for path in files))
