"""What an iteration computed, counted from its tables: the same whenever and wherever they were made."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl

from extra_rl.algorithms.compute import compute
from extra_rl.policy import weights_of
from extra_rl.tables.iteration import TablesByRole


def compute_figures(tables: TablesByRole, policy: Path, sampled: int) -> dict[str, Any]:
    """prefilled_tokens, scored_tokens, trained_tokens and compute of `contracts.IterationSummary`.

    tables: generate, regenerate, their scores, and update. policy: manifest of the policy that sampled; compute is None
    where its number of weights is not known. sampled: tokens that the iteration sampled.
    """
    counts = {
        "prefilled": sum(prefilled_tokens(tables[role]) for role in ("generate", "regenerate")),
        "scored": sum(int(tables[f"score_entropy_{of}"]["computed_tokens"].sum()) for of in ("generate", "regenerate")),
        "trained": int(tables["update"]["computed_tokens"].sum()),
    }
    weights = weights_of(policy)
    flop = None if weights is None else compute(weights, sampled=sampled, **counts)
    return {**{f"{name}_tokens": count for name, count in counts.items()}, "compute": flop}


def prefilled_tokens(rollouts: pl.DataFrame) -> int:
    """Tokens of the contexts (prompt, then prefix) of one sampling stage, each distinct context once, as the sampler
    reads them; those from which nothing was sampled not at all.

    A context that the sampler took in twice, because its rollouts did not fit into one batch or belong to different
    rounds, counts once: so the figure does not depend on `batch_rows`. rollouts: contracts.Rollouts.
    """
    begun = rollouts.filter(pl.col("sampled_tokens") > 0)
    first = begun.unique(["group_id", "prefix_id", "prefix_length"], keep="first", maintain_order=True)
    columns = first.select("prompt_tokens", pl.col("response_tokens").list.head("prefix_length")).iter_rows()
    return sum(map(len, {(*prompt, *prefix) for prompt, prefix in columns}))


def total_compute(former: Iterable[float | None], compute: float | None) -> float | None:
    """Compute of the run so far; None where any part of it is not known. former: of the iteration before, if any."""
    parts = [*former, compute]
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None
