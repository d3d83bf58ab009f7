"""What arms spent in three currencies: sampled tokens, analytic compute, and seconds of the stages that train.

Tokens, compute and useful groups are read from tables, which a repeated run reproduces. Seconds are read from the run
records: they differ between repetitions, and are written to no table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from extra_rl.run.records import MEASURING, cost, records

Costs = Mapping[str, float | None]
"""`records.cost`: wall, CPU and device seconds."""


class Spent(NamedTuple):
    """Sampled tokens and compute (FLOP) of one seed of an arm, from the last row of `summarize`."""

    tokens: int
    compute: float


@dataclass(frozen=True)
class Spending:
    """What one seed of an arm spent, or all its seeds together.

    spent: tokens and FLOP. training: seconds of the stages that train. measuring: those of evaluations and second
    judges. useful: useful groups. embedding: FLOP of embeddings, not part of compute. loss_tokens: sum of the
    denominators of all optimizer steps. None: not known.
    """

    spent: Spent
    training: Costs
    measuring: Costs
    useful: int | None = None
    embedding: float | None = None
    loss_tokens: int | None = None

    def rates(self, kind: str) -> dict[str, float | None]:
        """Return the useful groups, also per 1,000 sampled tokens, 10^12 FLOP and second.

        kind: key of the seconds (`records.kind_of_seconds`).
        """
        return {
            "useful_groups": self.useful,
            "useful_per_1000_tokens": per(self.useful, self.spent.tokens / 1e3),
            "useful_per_tflop": per(self.useful, self.spent.compute / 1e12),
            "useful_per_second": per(self.useful, self.training[kind]),
        }


def per(count: float | None, cost_of_it: float | None) -> float | None:
    """Return count / cost with six digits; None where either is not known, or the cost is 0."""
    return None if count is None or not cost_of_it else float(f"{count / cost_of_it:.6g}")


def spending_of(run: Path, spent: Spent) -> Spending:
    """Return what an arm and seed spent. run: its folder. spent: from its last iteration."""
    rows = records(run, "**/*.run.json")
    summaries = _column(run, "summarize", ["useful_groups", "embedding_compute"])
    updates = _column(run, "update", ["loss_tokens"])
    known = summaries is not None and not summaries["embedding_compute"].null_count()
    return Spending(
        spent,
        training=cost(row for row in rows if row.get("stage") not in MEASURING),
        measuring=cost(row for row in rows if row.get("stage") in MEASURING),
        useful=None if summaries is None else int(summaries["useful_groups"].sum()),
        embedding=float(summaries["embedding_compute"].sum()) if summaries is not None and known else None,
        loss_tokens=None if updates is None else int(updates["loss_tokens"].sum()),
    )


def together(seeds: Sequence[Spending]) -> Spending:
    """Return the sums over the seeds of an arm; None where a summand is not known."""
    return Spending(
        Spent(sum(of.spent.tokens for of in seeds), sum(of.spent.compute for of in seeds)),
        training=sum_of_costs(of.training for of in seeds),
        measuring=sum_of_costs(of.measuring for of in seeds),
        useful=_sum(of.useful for of in seeds),
        embedding=_sum(of.embedding for of in seeds),
        loss_tokens=_sum(of.loss_tokens for of in seeds),
    )


def sum_of_costs(costs: Iterable[Costs]) -> dict[str, float | None]:
    """Return the sums of seconds, by kind; None where a summand is not known."""
    rows = list(costs)
    sums = {key: _sum(row[key] for row in rows) for key in cost(())}
    return {key: None if total is None else round(total, 3) for key, total in sums.items()}


def budget_of(total: Spending, kind: str) -> dict[str, Any]:
    """Return the entry `budget` of an arm in summary.json, all seeds together; the seconds are those of training.

    `tokens_per_cpu_second` is sampled tokens per CPU-second of the stages, None without any. `measuring_...` are the
    seconds of evaluations and second judges.
    """
    cpu = total.training["compute_seconds"]
    return {
        "sampled_tokens": total.spent.tokens,
        "compute": total.spent.compute,
        "loss_tokens": total.loss_tokens,
        **total.rates(kind),
        "embedding_compute": total.embedding,
        **total.training,
        "tokens_per_cpu_second": round(total.spent.tokens / cpu, 3) if cpu else None,
        **{f"measuring_{name}": seconds for name, seconds in total.measuring.items()},
    }


def _column(run: Path, name: str, columns: Sequence[str]) -> pl.DataFrame | None:
    """Return columns of a table of all iterations of an arm and seed; None where no iteration has the table."""
    files = sorted(run.glob(f"iteration_*/{name}.parquet"))
    return pl.concat([pl.read_parquet(path, columns=list(columns), glob=False) for path in files]) if files else None


def _sum(values: Iterable[Any]) -> Any:
    found = list(values)
    return None if None in found else sum(found)
