"""Analytic compute: operations that follow from counts of tokens in an iteration's tables, not from times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from extra_rl.algorithms.prefixes import EMBEDDED_TOKENS
from extra_rl.models.policy import weights_of
from extra_rl.tables.iteration import TablesByRole


def compute_figures(tables: TablesByRole, policy: Path, sampled: int) -> dict[str, Any]:
    """Return prefilled_tokens, scored_tokens, trained_tokens and compute (FLOP) of `contracts.IterationSummary`.

    Args:
        tables: generate, regenerate, their scores, and update.
        policy: manifest of the policy that sampled.
        sampled: tokens that the iteration sampled.
    """
    counts = {
        "prefilled": sum(prefilled_tokens(tables[role]) for role in ("generate", "regenerate")),
        "scored": sum(int(tables[f"score_entropy_{of}"]["computed_tokens"].sum()) for of in ("generate", "regenerate")),
        "trained": int(tables["update"]["computed_tokens"].sum()),
    }
    flop = compute(weights_of(policy), sampled=sampled, **counts)
    return {**{f"{name}_tokens": count for name, count in counts.items()}, "compute": flop}


def embedding_figures(
    tables: TablesByRole, policy: Path, embedder: str, tail_tokens: int, smoothing: str = ""
) -> dict[str, Any]:
    """Return embedded_tokens and embedding_compute (FLOP) of `contracts.IterationSummary`.

    Embeddings of the novelty measure, 2N for each token of a response's tail, and those of candidate prefixes for
    `choose_prefixes.smoothing`, 2N for each token; nothing where neither is used. They are no part of `compute`, so
    arms with and without embeddings stay comparable with earlier results.

    Args:
        tables: generate, regenerate and novelty; choose_prefixes with smoothing.
        policy: manifest of a policy; the initial policy, which embeds, has as many weights.
        embedder: of the novelty measure: `policy`, `sentence` or "". The weights of a sentence model are not known:
            null.
        tail_tokens: number of last response tokens that are embedded (`novelty.tail_tokens`).
        smoothing: model that embeds candidate prefixes, likewise.
    """
    embedded = tables["novelty"].filter(pl.col("embedding").is_not_null()).select("rollout_id")
    length = pl.col("response_tokens").list.len()
    lengths = pl.concat([tables[role].select("rollout_id", length=length) for role in ("generate", "regenerate")])
    responses = int(embedded.join(lengths, on="rollout_id")["length"].clip(0, tail_tokens).sum())
    prefixes = smoothed_tokens(tables["choose_prefixes"], smoothing) if smoothing else 0
    tokens = responses + prefixes
    known = all(not count or model == "policy" for model, count in ((embedder, responses), (smoothing, prefixes)))
    return {"embedded_tokens": tokens, "embedding_compute": 2.0 * weights_of(policy) * tokens if known else None}


def smoothed_tokens(prefixes: pl.DataFrame, smoothing: str) -> int:
    """Return the tokens of the candidate prefixes that were embedded: those with a smoothed score.

    Remembered candidates are embedded again in each iteration in which their problem is continued. The policy reads
    the last `EMBEDDED_TOKENS` tokens of a prefix; a sentence model is given its whole text.

    prefixes: contracts.Prefixes. smoothing: `policy` or `sentence`.
    """
    lengths = prefixes.filter(pl.col("smoothed_score").is_not_null())["prefix_tokens"].list.len()
    return int((lengths.clip(0, EMBEDDED_TOKENS) if smoothing == "policy" else lengths).sum())


def prefilled_tokens(rollouts: pl.DataFrame) -> int:
    """Return the number of tokens in the distinct contexts (prompt, then prefix) of one sampling stage.

    Contexts from which nothing was sampled are left out. A context that the sampler read twice, because its rollouts
    did not fit into one batch or belong to different rounds, counts once: the figure does not depend on `batch_rows`.
    rollouts: contracts.Rollouts.
    """
    begun = rollouts.filter(pl.col("sampled_tokens") > 0)
    first = begun.unique(["group_id", "prefix_id", "prefix_length"], keep="first", maintain_order=True)
    columns = first.select("prompt_tokens", pl.col("response_tokens").list.head("prefix_length")).iter_rows()
    return sum(map(len, {(*prompt, *prefix) for prompt, prefix in columns}))


def compute(weights: int, *, sampled: int, prefilled: int, scored: int, trained: int) -> float:
    """2N (T_sampled + T_prefilled) + 2N T_scored + 6N T_trained, in FLOP.

    One multiplication and one addition for each weight and token make 2N forward; the backward pass costs twice that.
    Left out: attention over the context, embeddings of novelty measures, the reference of a KL term, verification,
    evaluations.

    Args:
        weights: N, all weights of the policy; embeddings count once where input and output share them.
        sampled: tokens sampled.
        prefilled: tokens of the contexts that the sampler read.
        scored: tokens in the forward passes of score_entropy.
        trained: tokens in the forward and backward passes of update.

    Example: N = 10, 3 tokens read and 5 sampled, 8 scored, 4 trained on: 160 + 160 + 240 = 560.
    Source: the estimate of Kaplan et al. (arXiv 2001.08361); which tokens count is our decision (docs/method.md 4).
    """
    return 2.0 * weights * (sampled + prefilled) + 2.0 * weights * scored + 6.0 * weights * trained
