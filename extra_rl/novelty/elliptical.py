"""Elliptical bonus: how far an embedding lies outside of the directions that the other rollouts of the group span.

A rival of the embedding distance: the distance to the nearest rollout compares pairs, the elliptical bonus the whole
set. A direction in which the others already vary counts little, a new one counts up to |d|^2 / ridge.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from extra_rl.novelty.base import Pool, Result, SiblingParams
from extra_rl.novelty.comparison import neighbourhoods

NEEDS_EMBEDDINGS = True


class Params(SiblingParams):
    """The embeddings, which rollouts are compared, and the weight of a direction that no other rollout has."""

    reference: Literal["sentence", "policy"] = Field(
        default="policy",
        description="Embeddings: mean hidden states of the initial policy (as the source), or the sentence model's.",
    )
    ridge: float = Field(
        default=0.01, gt=0, description="lambda: added to the covariance's diagonal; bounds the bonus by 4 / ridge."
    )


def measure(pool: Pool, params: Params, seed: int) -> Result:
    """nov_i = d_i^T (lambda I + sum over j in C_i of d_j d_j^T)^-1 d_i, with d_j = e_j - mean over C_i and i of e.

    The bonus leaves rollout i itself out of the covariance, and every group has its own covariance. It is 0 for copies
    of one rollout and with an empty C_i, and at most |d_i|^2 / lambda. It grows with the embeddings' scale: set
    `advantage.scale`. `nearest_N` is -1, because the set is compared as a whole. Raises ContractError where embeddings
    are missing or not of unit norm.

    With X the rows d_j (n, D), k = X d_i and G = X X^T the formula equals (|d_i|^2 - k^T (lambda I + G)^-1 k) / lambda
    (Woodbury), so only systems of n unknowns are solved, whatever D is.

    Source: arXiv 2510.11686, its leave-one-out form with centring by group and lambda 0.01 (the authors' verl recipe).
    Different here (O): unit-norm embeddings; no random projection, which the form above makes unnecessary; remembered
    rollouts and `pool: correct`.
    """
    embeddings = pool.all_embeddings()
    novelty_N = np.zeros(len(pool.groups_N))
    for group in neighbourhoods(pool, params.pool):
        group_RD = embeddings[group.rows_R]
        novelty_N[group.rollouts_K] = [
            _bonus(group_RD[i], group_RD[compared_R], params.ridge) for i, compared_R in enumerate(group.compared_KR)
        ]
    return Result(novelty_N, np.full(len(novelty_N), -1, np.int64))


def _bonus(own_D: NDArray[np.float64], others_CD: NDArray[np.float64], ridge: float) -> float:
    """The bonus of one rollout against its comparison set."""
    if len(others_CD) == 0:
        return 0.0
    centre_D = (own_D + others_CD.sum(axis=0)) / (1 + len(others_CD))
    own_D, others_CD = own_D - centre_D, others_CD - centre_D
    shared_C = others_CD @ own_D
    gram_CC = others_CD @ others_CD.T + ridge * np.eye(len(others_CD))
    explained = shared_C @ np.linalg.solve(gram_CC, shared_C)
    return max(0.0, float(own_D @ own_D - explained) / ridge)
