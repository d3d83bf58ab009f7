"""Distinct correct solutions per problem: the diversity that pass@k may rest on."""

from __future__ import annotations

from typing import Any

import polars as pl

from extra_rl.report.collect import final_samples
from extra_rl.report.curves import over_seeds
from extra_rl.report.sources import Sources


def table(sources: Sources) -> dict[str, Any] | None:
    """benchmarks, and a row a cell: distinct correct solutions per problem, mean over its problems, then over seeds.

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
    """Return (benchmark, problem_id, right, distinct) of an evaluation table, one row a problem, in the table's order.

    right: samples judged correct. distinct: different texts among these, after collapsing white space. Texts rather
    than, say, the multiset of a signed sum's steps: a text means the same for every task, and the order of steps is
    part of a solution, so two orders of the same steps count as two. Source: our decision.
    """
    right = pl.col("verdict").cast(pl.String) == "right"
    text = pl.col("response").str.replace_all(r"\s+", " ").str.strip_chars()
    return evaluate.group_by("benchmark", "problem_id", maintain_order=True).agg(
        right=right.sum().cast(pl.Int64), distinct=text.filter(right).n_unique().cast(pl.Int64)
    )
