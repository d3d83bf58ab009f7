"""Cosine distance to the other rollouts of the group: the paper's novelty reward.

Two measures share this file and differ only in the embedder: `sentence` (MiniLM-L6-v2; P, R) and `policy` (hidden
states of the frozen initial policy; O).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from extra_rl.novelty.base import Pool, Result, SimilarityParams
from extra_rl.novelty.comparison import similarity_novelty

NEEDS_EMBEDDINGS = True


class Params(SimilarityParams):
    """Which rollouts are compared, and how their cosines are aggregated."""


def measure(pool: Pool, params: Params, seed: int) -> Result:
    """nov_i = max(0, 1 - max over j in C_i of cos(e_i, e_j)), in 0..2; the mean over C_i with `mean`.

    The zero embedding of an empty response has the cosine 0 with every other.
    Raises ContractError where embeddings are missing or not of unit norm. Source: nearest: R; mean: F.
    """
    embeddings = pool.all_embeddings()

    def cosine(rows_R: NDArray[np.int64]) -> NDArray[np.float64]:
        group_RD = embeddings[rows_R]
        return group_RD @ group_RD.T

    return similarity_novelty(pool, params, cosine)
