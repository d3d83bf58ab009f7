"""What each arm spent: sampled tokens, compute, CPU- and wall seconds, and what came of them."""

from __future__ import annotations

from typing import Any

import polars as pl

from extra_rl.report.sources import Sources
from extra_rl.run.records import cost, records


def rows(sources: Sources, iterations: pl.DataFrame, sections: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a cell. Seconds are those of the stages of all seeds, without evaluations.

    tokens: sampled, mean over seeds. compute: the analytic one in FLOP (docs/method.md 4), mean over seeds. budget:
    `select.token_budget`, None without one. overshoot: share by which the mean exceeds it. steps: iterations that
    sampled, mean over seeds. sections: cell -> stage -> section.
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
                "mixed": 1000 * float(mine["mixed"].sum()) / tokens,
                "rescued": 1000 * float(mine["rescued"].sum()) / tokens,
            }
        )
    return found


def seconds(sources: Sources, folder: str) -> tuple[float, float]:
    """CPU- and wall seconds of a cell's stages, evaluations left out: from summary.json, else from the run records."""
    known = sources.summary.get("arms", {}).get(folder, {}).get("budget")
    if known:
        return float(known["compute_seconds"]), float(known["wall_seconds"])
    rows = [r for r in records(sources.results / folder, "s*/iteration_*/*.run.json") if r["stage"] != "evaluate"]
    spent = cost(rows)
    return spent["compute_seconds"], spent["wall_seconds"]
