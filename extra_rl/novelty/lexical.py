"""Lexical novelty: the share of n-grams that a rollout does not share with another. A control without an embedder
(F)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from extra_rl.novelty.base import Pool, Result, SimilarityParams
from extra_rl.novelty.comparison import similarity_novelty
from extra_rl.novelty.ngrams import ngram_incidence

NEEDS_EMBEDDINGS = False


class Params(SimilarityParams):
    """Which rollouts are compared, how their overlaps are aggregated, and the length of an n-gram."""

    n: int = Field(default=4, ge=1, description="Length of an n-gram, in tokens.")


def measure(pool: Pool, params: Params, seed: int) -> Result:
    """nov_i = 1 - max over j in C_i of |S_i & S_j| / |S_i | S_j|, in 0..1; the mean over C_i with `mean`.

    S is a response's set of token n-grams. Two empty responses are equal (overlap 1). Source: F; n = 4: O.
    """
    tokens = pool.all_tokens()

    def jaccard(rows_R: NDArray[np.int64]) -> NDArray[np.float64]:
        incidence = ngram_incidence([tokens[row] for row in rows_R], params.n)
        shared_RR = (incidence @ incidence.T).astype(np.float64)
        size_R = incidence.sum(axis=1)
        union_RR = size_R[:, None] + size_R[None, :] - shared_RR
        overlap_RR = np.ones_like(shared_RR)
        np.divide(shared_RR, union_RR, out=overlap_RR, where=union_RR > 0)
        return overlap_RR

    return similarity_novelty(pool, params, jaccard)
