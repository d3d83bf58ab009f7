"""Count-based novelty: n-grams that few rollouts of the group contain have a higher score.

R names a count-based alternative without a formula. This is our reading (O) of the classical exploration bonus
1 / sqrt(visits): a state is a token n-gram, and a visit is a rollout that contains it.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from extra_rl.novelty.base import Pool, Result, SiblingParams
from extra_rl.novelty.comparison import neighbourhoods
from extra_rl.novelty.ngrams import ngram_incidence

NEEDS_EMBEDDINGS = False


class Params(SiblingParams):
    """Which rollouts are counted, and the length of an n-gram."""

    n: int = Field(default=4, ge=1, description="Length of an n-gram, in tokens.")


def measure(pool: Pool, params: Params, seed: int) -> Result:
    """nov_i = mean over g in S_i of 1 / sqrt(1 + |{j in C_i : g in S_j}|), S a response's set of n-grams.

    The 1 is rollout i's own visit. Values are in 1/sqrt(1 + |C_i|) .. 1: copies of one text have the lower bound, not
    0. A repeated n-gram within a response counts once. The novelty is 0 where C_i or the response is empty. `nearest_N`
    is -1, because the set is counted as a whole. Source: O.
    """
    tokens = pool.all_tokens()
    novelty_N = np.zeros(len(pool.groups_N))
    for group in neighbourhoods(pool, params.pool):
        incidence = ngram_incidence([tokens[row] for row in group.rows_R], params.n)
        own = incidence[: len(group.compared_KR)]
        visits = 1.0 + group.compared_KR.astype(np.float32) @ incidence
        total_K = (own / np.sqrt(visits)).sum(axis=1, dtype=np.float64)
        mean_K = total_K / np.maximum(own.sum(axis=1), 1)
        novelty_N[group.rollouts_K] = np.where(group.compared_KR.any(axis=1), mean_K, 0.0)
    return Result(novelty_N, np.full(len(novelty_N), -1, np.int64))
