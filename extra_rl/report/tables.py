"""Tables of the page: what each arm spent, and distinct correct solutions per problem."""

from __future__ import annotations

from typing import Any

import polars as pl

from extra_rl.report.collect import final_samples
from extra_rl.report.curves import over_seeds
from extra_rl.report.sources import Sources
from extra_rl.run.records import cost, records


def spending(sources: Sources, iterations: pl.DataFrame, sections: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what each cell spent, one row per cell; means over seeds.

    tokens: sampled. compute: analytic, in FLOP (docs/method.md 4). budget: `select.token_budget`, None without one.
    overshoot: share by which `tokens` exceeds it. steps: iterations that sampled. cpu, wall: seconds of the stages,
    without evaluations. mixed, rescued: groups per 1,000 sampled tokens.

    Args:
        sources: of the run.
        iterations: `collect.iterations`.
        sections: cell -> stage -> resolved section.
    """
    totals = iterations.group_by("folder", "seed", maintain_order=True).agg(
        tokens=pl.col("sampled_tokens").sum(),
        compute=pl.col("compute").sum(),
        steps=pl.len(),
        mixed=pl.col("mixed").sum(),
        rescued=pl.col("rescued_groups").sum(),
    )
    found = []
    for cell in sources.cells:
        mine = totals.filter(folder=cell.folder)
        if mine.is_empty():
            continue
        tokens = float(mine["tokens"].sum())
        mean = tokens / len(mine)
        budget = sections.get(cell.folder, {}).get("select", {}).get("token_budget")
        cpu, wall = seconds(sources, cell.folder)
        found.append(
            {
                "cell": cell,
                "seeds": len(mine),
                "tokens": mean,
                "compute": float(mine["compute"].sum()) / len(mine),
                "budget": budget,
                "overshoot": mean / budget - 1 if budget else None,
                "steps": float(mine["steps"].sum()) / len(mine),
                "cpu": cpu / len(mine),
                "wall": wall / len(mine),
                "tokens_per_cpu": tokens / cpu if cpu else None,
                # An arm that trains on demonstrations samples nothing.
                "mixed": 1000 * float(mine["mixed"].sum()) / tokens if tokens else None,
                "rescued": 1000 * float(mine["rescued"].sum()) / tokens if tokens else None,
            }
        )
    return found


def seconds(sources: Sources, folder: str) -> tuple[float, float]:
    """Return CPU and wall seconds of a cell's stages without evaluations, from summary.json or the run records."""
    known = sources.summary.get("arms", {}).get(folder, {}).get("budget")
    if known:
        return float(known["compute_seconds"]), float(known["wall_seconds"])
    rows = [r for r in records(sources.results / folder, "s*/iteration_*/*.run.json") if r["stage"] != "evaluate"]
    spent = cost(rows)
    return spent["compute_seconds"], spent["wall_seconds"]


def solutions(sources: Sources) -> dict[str, Any] | None:
    """Return `benchmarks` and one row per cell: distinct correct solutions per problem, mean over problems, then seeds.

    None before any final policy was evaluated.
    """
    found = []
    for (name, seed), samples in final_samples(sources):
        means = distinct_solutions(samples).group_by("benchmark", maintain_order=True).agg(pl.col("distinct").mean())
        found.append(means.with_columns(folder=pl.lit(name), seed=pl.lit(seed)))
    if not found:
        return None
    means = over_seeds(pl.concat(found), ["folder", "benchmark"], "distinct")
    benchmarks = means["benchmark"].unique(maintain_order=True).to_list()
    values = {
        (folder, benchmark): mean for folder, benchmark, mean in means.select("folder", "benchmark", "mean").iter_rows()
    }
    evaluated = {folder for folder, _ in values}
    rows = [
        {"cell": cell, "values": [values.get((cell.folder, benchmark)) for benchmark in benchmarks]}
        for cell in sources.cells
        if cell.folder in evaluated
    ]
    return {"benchmarks": benchmarks, "rows": rows}


def distinct_solutions(evaluate: pl.DataFrame) -> pl.DataFrame:
    """Return (benchmark, problem_id, right, distinct) of an evaluation table, one row per problem, in its order.

    right: samples judged correct. distinct: different texts among these, after collapsing white space. Texts can be
    compared for every task, and two orders of the same steps count as two solutions. Source: our decision.
    """
    right = pl.col("verdict").cast(pl.String) == "right"
    text = pl.col("response").str.replace_all(r"\s+", " ").str.strip_chars()
    return evaluate.group_by("benchmark", "problem_id", maintain_order=True).agg(
        right=right.sum().cast(pl.Int64), distinct=text.filter(right).n_unique().cast(pl.Int64)
    )
