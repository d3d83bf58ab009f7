"""Random bonus of matched magnitude: separates the effect of what the bonus rewards from that of its size (F)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from extra_rl.novelty import embedding_distance
from extra_rl.novelty.base import BoolArray, IntArray, Pool, Result
from extra_rl.seeding import derive_seed

NEEDS_EMBEDDINGS = True
Within = Literal["batch", "group"]


class Params(embedding_distance.Params):
    """The embedding bonus whose values are permuted, and the scope of the permutation."""

    reference: Literal["sentence", "policy"] = Field(
        default="sentence",
        description="The measure whose values are permuted; its embedder is used.",
    )
    within: Within = Field(
        default="batch",
        description="Values are permuted over the correct rollouts of the whole batch, or of each group.",
    )


def measure(pool: Pool, params: Params, seed: int) -> Result:
    """The embedding distance, permuted over the correct rollouts; incorrect rollouts keep their own value.

    With `batch`, a rollout with an empty comparison set can receive the value of another. `nearest_N` is -1 for correct
    rollouts, because their value does not come from a comparison. Source: F.
    """
    reference = embedding_distance.measure(pool, params, seed)
    novelty_N = permute_correct(
        reference.novelty_N, pool.correct_N, pool.groups_N, pool.rollout_ids_N, params.within, seed
    )
    return Result(novelty_N, np.where(pool.correct_N, -1, reference.nearest_N))


def permute_correct(
    novelty_N: NDArray[np.float64],
    correct_N: BoolArray,
    groups_N: IntArray,
    rollout_ids_N: Sequence[str],
    within: Within,
    seed: int,
) -> NDArray[np.float64]:
    """The values of the correct rows in a uniformly random permutation, over the batch or within each group.

    Rows are ordered twice by keys that are drawn from seed and rollout id, once as source and once as target; the k-th
    source's value goes to the k-th target. The pairing depends on the ids only, not on the order of rows.

    Args:
        novelty_N: the values.
        correct_N: the rows that are permuted.
        groups_N: group labels.
        rollout_ids_N: unique names of the rows.
        within: scope of the permutation.
        seed: of the permutation.
    """
    rows = np.flatnonzero(correct_N)
    scope = groups_N[rows] if within == "group" else np.zeros(len(rows), np.int64)

    def shuffled(role: str) -> NDArray[np.int64]:
        keys = np.array([derive_seed(seed, role, rollout_ids_N[int(row)]) for row in rows], np.int64)
        return rows[np.lexsort((keys, scope))]

    permuted_N = novelty_N.copy()
    permuted_N[shuffled("receiver")] = novelty_N[shuffled("giver")]
    return permuted_N
