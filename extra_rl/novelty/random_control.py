"""Random bonus of matched magnitude: tells what the embedding bonus rewards from how large it is (F)."""

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
    """The embedding bonus whose values are kept, and how far they may travel."""

    reference: Literal["sentence", "policy"] = Field(
        default="sentence",
        description="The measure whose values are kept. The caller embeds as this measure does.",
    )
    within: Within = Field(
        default="batch",
        description="Values change places among the correct rollouts of the whole batch, or of each group.",
    )


def measure(pool: Pool, params: Params, seed: int) -> Result:
    """The embedding distance, permuted over the correct rollouts; wrong rollouts keep their own value.

    With `batch`, a rollout with an empty comparison set can receive the value of another. nearest is -1 for
    correct rollouts: their value was drawn, not compared. Source: F.
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
    """The correct rows' values in a uniformly random permutation, over the batch or inside each group.

    Givers and receivers are ordered by keys drawn from seed and rollout id: the k-th giver's value goes
    to the k-th receiver. So the pairing depends on names, never on the order of rows.
    """
    rows = np.flatnonzero(correct_N)
    scope = groups_N[rows] if within == "group" else np.zeros(len(rows), np.int64)

    def shuffled(role: str) -> NDArray[np.int64]:
        keys = np.array([derive_seed(seed, role, rollout_ids_N[int(row)]) for row in rows], np.int64)
        return rows[np.lexsort((keys, scope))]

    permuted_N = novelty_N.copy()
    permuted_N[shuffled("receiver")] = novelty_N[shuffled("giver")]
    return permuted_N
