"""The input of the novelty measures: the rollouts of an iteration and the remembered rollouts of their problems."""

from __future__ import annotations

import numpy as np
import polars as pl

from extra_rl.novelty import Pool


def pool_of(
    rollouts: pl.DataFrame, memory: pl.DataFrame, tail_tokens: int, embeddings_ND: np.ndarray | None
) -> tuple[Pool, list[str]]:
    """The pool, and the rollout ids by row number: of the rollouts, then of the remembered ones.

    Args:
        rollouts: with verdicts and token scores. The comparison groups are the problems. A rollout without scores has
            NaN as logprobs.
        memory: table NoveltyMemory; rows of other problems are ignored.
        tail_tokens: number of last response tokens that are compared.
        embeddings_ND: of the rollouts, in their order, or None.
    """
    problems = {name: i for i, name in enumerate(rollouts["problem_id"].unique(maintain_order=True))}
    known = memory.filter(pl.col("problem_id").is_in(list(problems)))
    tails_N = [np.array(tokens[-tail_tokens:]) for tokens in rollouts["response_tokens"]]
    pool = Pool(
        rollout_ids_N=rollouts["rollout_id"].to_list(),
        groups_N=np.array([problems[name] for name in rollouts["problem_id"]]),
        correct_N=(rollouts["verdict"] == "right").to_numpy(),
        tokens_N=tails_N,
        logprobs_N=[
            np.full(len(tail_T), np.nan) if values is None else np.array(values[-tail_tokens:])
            for tail_T, values in zip(tails_N, rollouts["policy_logprobs"].to_list(), strict=True)
        ],
        embeddings_ND=embeddings_ND,
        memory_groups_M=np.array([problems[name] for name in known["problem_id"]], np.int64),
        memory_tokens_M=[np.array(tokens) for tokens in known["tokens"]],
        memory_embeddings_MD=None if embeddings_ND is None else stored_embeddings(known),
    )
    return pool, [*pool.rollout_ids_N, *known["rollout_id"]]


def stored_embeddings(rows: pl.DataFrame) -> np.ndarray | None:
    """Column `embedding` as an array (N, D); None without rows, or where a row has none."""
    column = rows["embedding"]
    return None if column.is_empty() or column.null_count() else np.array(column.to_list(), np.float32)
