"""Tables of the page: what each arm spent, and distinct correct solutions per problem."""

from __future__ import annotations

from typing import Any

import polars as pl

from extra_rl.report.collect import final_samples
from extra_rl.report.curves import over_seeds
from extra_rl.report.sources import Sources
from extra_rl.report.spent import CURRENCIES, RATES, Spent, relative, useful_rates


def spending(sources: Sources, spent: Spent, sections: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what each cell spent, one row per cell; means over seeds.

    tokens: sampled. compute: analytic, in FLOP (docs/method.md 4). budget: `select.token_budget`, None without one.
    overshoot: share by which `tokens` exceeds it. steps: iterations that sampled. seconds, wall: of the stages that
    train, None where not known. ratios: currency -> spending divided by that of the base arm of the regime. rates:
    useful groups per 1,000 tokens, TFLOP and second, and rescued groups per 1,000 tokens (`spent.useful_rates`).
    by_seed: `seed_row` of every seed.

    Args:
        sources: of the run.
        spent: `spent.by_seed`.
        sections: cell -> stage -> resolved section.
    """
    ratios, rates = _by_cell(relative(spent, sources.arms[0])), _by_cell(useful_rates(spent))
    found = []
    for cell in sources.cells:
        mine = spent.rows.filter(folder=cell.folder)
        if mine.is_empty():
            continue
        tokens, seconds = _mean(mine, "tokens"), _mean(mine, "seconds")
        assert tokens is not None
        budget = sections.get(cell.folder, {}).get("select", {}).get("token_budget")
        found.append(
            {
                "cell": cell,
                "tokens": tokens,
                "budget": budget,
                "overshoot": tokens / budget - 1 if budget else None,
                **{name: _mean(mine, name) for name in ("compute", "steps", "seconds")},
                "wall": _mean(mine, "wall_seconds") or None,
                "tokens_per_second": tokens / seconds if seconds else None,
                "ratios": ratios.get(cell.folder, {}),
                "rates": rates.get(cell.folder, {}),
                "by_seed": [seed_row(row) for row in mine.iter_rows(named=True)],
            }
        )
    return found


def seed_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return seed, CURRENCIES, useful groups, and `rates`: currency -> useful groups per unit. row: of `Spent.rows`."""
    rates = {name: unit * row["useful"] / row[name] if row[name] else None for name, unit in RATES.items()}
    return {name: row[name] for name in ("seed", *CURRENCIES, "useful")} | {"rates": rates}


def _by_cell(rows: pl.DataFrame) -> dict[str, dict[str, float]]:
    """Return folder -> what -> mean."""
    found: dict[str, dict[str, float]] = {}
    for folder, what, mean in rows.select("folder", "what", "mean").iter_rows():
        found.setdefault(folder, {})[what] = mean
    return found


def _mean(rows: pl.DataFrame, column: str) -> float | None:
    """Return the mean over seeds; None where a seed has no value."""
    values = rows[column].to_list()
    return None if None in values else float(sum(values)) / len(values)


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
