"""Comparison sets, and novelty from a pairwise similarity.

The comparison set C_i of rollout i contains its siblings (all, or the correct ones only) and every remembered rollout
of its group, but not i. With an empty C_i the novelty is 0. Source: siblings and memory: R; options: F.

Axes: R rows of one group: its K rollouts of the batch first, then the remembered ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from extra_rl.novelty.base import BoolArray, Pool, Result, Siblings, SimilarityParams


@dataclass(frozen=True)
class Neighbourhood:
    """One group. rows_R: its row numbers, ascending. compared_KR: True where row r is in C_k."""

    rows_R: NDArray[np.int64]
    compared_KR: BoolArray

    @property
    def rollouts_K(self) -> NDArray[np.int64]:
        """Row numbers of the group's rollouts in the batch."""
        return self.rows_R[: len(self.compared_KR)]


def neighbourhoods(pool: Pool, siblings: Siblings) -> Iterator[Neighbourhood]:
    """The groups that have a rollout in the batch."""
    rollouts = len(pool.groups_N)
    labels = np.concatenate([pool.groups_N, pool.memory_groups_M])
    counts = np.ones(len(labels), bool)
    if siblings == "correct":
        counts[:rollouts] = pool.correct_N
    # A stable sort by label keeps the rollouts of the batch before the remembered ones within each group.
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order])) + 1
    for rows_R in np.split(order, starts):
        size = int((rows_R < rollouts).sum())
        if size == 0:
            continue  # all rollouts of the group are remembered ones
        compared_KR = np.tile(counts[rows_R], (size, 1))
        np.fill_diagonal(compared_KR, False)
        yield Neighbourhood(rows_R, compared_KR)


def similarity_novelty(
    pool: Pool,
    params: SimilarityParams,
    similarity: Callable[[NDArray[np.int64]], NDArray[np.float64]],
) -> Result:
    """nov_i = max(0, 1 - max over j in C_i of s_ij); the mean over C_i with `mean`; 0 where C_i is empty.

    similarity: maps the row numbers of a group, (R,), to the similarities of all pairs, (R, R).
    `nearest_N` is the most similar row with both aggregates; of equal ones it is the first.
    Source: nearest: R; mean: F.
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
