"""Analytic compute: operations that follow from counts of tokens in an iteration's tables, not from times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from extra_rl.models.policy import weights_of
from extra_rl.tables.iteration import TablesByRole


def compute_figures(tables: TablesByRole, policy: Path, sampled: int) -> dict[str, Any]:
    """prefilled_tokens, scored_tokens, trained_tokens and compute of `contracts.IterationSummary`.

    tables: generate, regenerate, their scores, and update. policy: manifest of the policy that sampled. sampled: tokens
    that the iteration sampled.
    """
    counts = {
        "prefilled": sum(prefilled_tokens(tables[role]) for role in ("generate", "regenerate")),
        "scored": sum(int(tables[f"score_entropy_{of}"]["computed_tokens"].sum()) for of in ("generate", "regenerate")),
        "trained": int(tables["update"]["computed_tokens"].sum()),
    }
    flop = compute(weights_of(policy), sampled=sampled, **counts)
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


def compute(weights: int, *, sampled: int, prefilled: int, scored: int, trained: int) -> float:
    """2N (T_sampled + T_prefilled) + 2N T_scored + 6N T_trained, in FLOP.

    weights: N, every weight of the policy, embeddings counted once where input and output share them. A multiplication
    and an addition for every weight and token make 2N forward; the backward pass costs twice that. Left out: attention
    over the context, embeddings of novelty measures, the reference of a KL term, verification, evaluations.

    Example: N = 10, 5 tokens sampled after 3 that were read, 8 scored, 4 trained on: 160 + 160 + 240 = 560.
    Source: the estimate of Kaplan et al. (arXiv 2001.08361); which tokens count is our decision (docs/method.md 4).
    """
    return 2.0 * weights * (sampled + prefilled) + 2.0 * weights * scored + 6.0 * weights * trained
