"""The random control: the values of the embedding bonus, permuted over the correct rollouts."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from extra_rl.novelty import embedding_distance, random_control
from extra_rl.novelty.base import Pool

GROUPS, SIZE = 10, 8


@pytest.fixture
def pool() -> Pool:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(GROUPS * SIZE, 5))
    return Pool(
        rollout_ids_N=[f"r{row}" for row in range(GROUPS * SIZE)],
        groups_N=np.tile(np.arange(GROUPS), SIZE),
        correct_N=rng.random(GROUPS * SIZE) < 0.6,
        tokens_N=[np.array([1])] * (GROUPS * SIZE),
        logprobs_N=[np.array([-1.0])] * (GROUPS * SIZE),
        embeddings_ND=(rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32),
    )


@pytest.fixture
def reference(pool) -> np.ndarray:
    return embedding_distance.measure(pool, embedding_distance.Params(aggregate="mean"), seed=0).novelty_N


def control(pool: Pool, seed: int, within: str) -> np.ndarray:
    params = random_control.Params(aggregate="mean", within=within)
    return random_control.measure(pool, params, seed).novelty_N


@pytest.mark.parametrize("within", ["batch", "group"])
def test_correct_rollouts_keep_the_multiset_and_incorrect_ones_their_own_value(pool, reference, within):
    values_N = control(pool, 0, within)
    assert sorted(values_N[pool.correct_N]) == sorted(reference[pool.correct_N])
    np.testing.assert_array_equal(values_N[~pool.correct_N], reference[~pool.correct_N])


@pytest.mark.parametrize("within", ["batch", "group"])
def test_most_correct_rollouts_have_the_value_of_another(pool, reference, within):
    moved_N = control(pool, 0, within) != reference
    assert moved_N[pool.correct_N].mean() > 0.5


def test_a_permutation_within_groups_keeps_the_multiset_of_each_group(pool, reference):
    def keeps(values_N: np.ndarray) -> list[bool]:
        members = [(pool.groups_N == group) & pool.correct_N for group in range(GROUPS)]
        return [sorted(values_N[rows]) == sorted(reference[rows]) for rows in members]

    assert all(keeps(control(pool, 0, "group")))
    assert not any(keeps(control(pool, 0, "batch")))


@pytest.mark.parametrize("within", ["batch", "group"])
def test_the_permutation_depends_on_the_seed(pool, within):
    np.testing.assert_array_equal(control(pool, 3, within), control(pool, 3, within))
    assert (control(pool, 3, within) != control(pool, 4, within)).mean() > 0.3


def test_nearest_is_kept_for_incorrect_rollouts_only(pool):
    compared = embedding_distance.measure(pool, embedding_distance.Params(), seed=0)
    nearest_N = random_control.measure(pool, random_control.Params(), seed=0).nearest_N
    assert (nearest_N[pool.correct_N] == -1).all()
    np.testing.assert_array_equal(nearest_N[~pool.correct_N], compared.nearest_N[~pool.correct_N])


def test_every_permutation_is_equally_likely():
    values_N = np.array([0.1, 0.2, 0.3])
    seen = Counter(
        tuple(
            random_control.permute_correct(
                values_N, np.ones(3, bool), np.zeros(3, np.int64), ["a", "b", "c"], "batch", seed
            )
        )
        for seed in range(600)
    )
    assert len(seen) == 6
    assert all(60 <= count <= 140 for count in seen.values())  # 100 expected, standard deviation 9
