"""What each arm spent: sampled tokens, compute, loss tokens, and from run records the seconds of its stages."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from extra_rl.run.records import cost, records

LOOKING = ("evaluate", "audit")
"""Stages that look at a run and are no part of it."""


class Spent(NamedTuple):
    """What one seed of an arm spent, by the last row of `summarize`. compute: in FLOP."""

    tokens: int
    compute: float


def costs(folders: Iterable[Path], spent: Spent | None = None) -> dict[str, Any]:
    """Seconds of everything below the folders, and `budget`: of the stages without evaluations and second judges.

    spent: by all seeds; without it (a warm start) there is no `budget`. loss_tokens: tokens in the denominators of all
    optimizer steps (`update.loss_tokens`), None where no update is there. Seconds are sums over all seeds and stages,
    in the processes themselves: starting them is not in it. tokens_per_cpu_second: sampled tokens per CPU-second of the
    stages; None without any.
    """
    folders = list(folders)
    rows = [row for folder in folders for row in records(folder, "**/*.run.json")]
    total = cost(rows)
    if spent is None:
        return total
    training = cost(row for row in rows if row.get("stage") not in LOOKING)
    looking = cost(row for row in rows if row.get("stage") in LOOKING)
    cpu = training["compute_seconds"]
    budget = {
        "sampled_tokens": spent.tokens,
        "compute": spent.compute,
        "loss_tokens": loss_tokens(folders),
        **training,
        "tokens_per_cpu_second": round(spent.tokens / cpu, 3) if cpu else None,
        **{f"looking_{name}": seconds for name, seconds in looking.items()},
    }
    return {**total, "budget": budget}


def loss_tokens(folders: Iterable[Path]) -> int | None:
    """Tokens that the losses of all optimizer steps below the folders were taken over."""
    files = [path for folder in folders for path in sorted(folder.glob("s*/iteration_*/update.parquet"))]
    if not files:
        return None
    return int(sum(pl.read_parquet(path, columns=["loss_tokens"], glob=False)["loss_tokens"].sum() for path in files))
