"""Whom a rollout is compared with, and novelty from a pairwise similarity.

The comparison set C_i of rollout i holds its siblings (all, or the correct ones only) and every
remembered earlier rollout of its group, never i itself. An empty C_i gives novelty 0.
Source: R (siblings and memory), F (options).

Axes: R rows of one group, its K rollouts of the batch first, then its remembered ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from extra_rl.novelty.base import BoolArray, Pool, Result, Siblings, SimilarityParams


@dataclass(frozen=True)
class Neighbourhood:
    """One group: its row numbers, ascending, and who counts. compared_KR is True where row r is in C_k."""

    rows_R: NDArray[np.int64]
    compared_KR: BoolArray

    @property
    def rollouts_K(self) -> NDArray[np.int64]:
        """Row numbers of the group's rollouts in the batch."""
        return self.rows_R[: len(self.compared_KR)]


def neighbourhoods(pool: Pool, siblings: Siblings) -> Iterator[Neighbourhood]:
    """Every group that has a rollout in the batch."""
    rollouts = len(pool.groups_N)
    labels = np.concatenate([pool.groups_N, pool.memory_groups_M])
    counts = np.ones(len(labels), bool)
    if siblings == "correct":
        counts[:rollouts] = pool.correct_N
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order])) + 1
    for rows_R in np.split(order, starts):
        size = int((rows_R < rollouts).sum())
        if size == 0:
            continue  # remembered only: nothing in this batch to compare
        compared_KR = np.tile(counts[rows_R], (size, 1))
        np.fill_diagonal(compared_KR, False)
        yield Neighbourhood(rows_R, compared_KR)


def similarity_novelty(
    pool: Pool,
    params: SimilarityParams,
    similarity: Callable[[NDArray[np.int64]], NDArray[np.float64]],
) -> Result:
    """nov_i = max(0, 1 - max over j in C_i of s_ij), with `mean` the mean over C_i; 0 where C_i is empty.

    similarity: from the row numbers of a group, (R,), the similarity of each pair, (R, R).
    nearest is the most similar row under either aggregate, the lowest number of equal ones.
    Source: R (nearest), F (mean).
    """
    novelty_N = np.zeros(len(pool.groups_N))
    nearest_N = np.full(len(pool.groups_N), -1, np.int64)
    for group in neighbourhoods(pool, params.pool):
        compared_KR = group.compared_KR
        similarity_KR = similarity(group.rows_R)[: len(compared_KR)]
        candidates_KR = np.where(compared_KR, similarity_KR, -np.inf)
        if params.aggregate == "nearest":
            closeness_K = candidates_KR.max(axis=1)
        else:
            total_K = similarity_KR.sum(axis=1, where=compared_KR)
            closeness_K = total_K / np.maximum(compared_KR.sum(axis=1), 1)
        nonempty_K = compared_KR.any(axis=1)
        novelty_N[group.rollouts_K] = np.where(nonempty_K, np.maximum(0.0, 1.0 - closeness_K), 0.0)
        nearest_N[group.rollouts_K] = np.where(nonempty_K, group.rows_R[candidates_KR.argmax(axis=1)], -1)
    return Result(novelty_N, nearest_N)
