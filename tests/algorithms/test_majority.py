"""maj@k: subsets counted by hand, the tie rule, and the estimate against all subsets of a small case."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from extra_rl.algorithms.majority import NO_VOTE, RIGHT, majority_at_each_k
from extra_rl.algorithms.pass_at_k import pass_at_k
from extra_rl.errors import ContractError
from extra_rl.seeding import generator

N = NO_VOTE


def shares(votes: list[list[int]], orders: int = 20_000) -> np.ndarray:
    return majority_at_each_k(np.array(votes), generator(0, "test"), orders)


def test_of_equal_votes_the_earliest_sample_wins() -> None:
    first, last = shares([[RIGHT, 1, 1], [1, RIGHT, RIGHT]])
    # pairs of the first: {correct, 1} twice, decided by the first sample, and {1, 1}; the second is its mirror image
    assert first == pytest.approx([1 / 3, 2 / 3, 0], abs=0.01)
    assert last == pytest.approx([2 / 3, 1 / 3, 1], abs=0.01)


def test_one_and_all_samples_and_all_but_one_are_exact_under_every_seed() -> None:
    votes = np.array([[1, RIGHT, 2, RIGHT], [1, 2, RIGHT, 3], [RIGHT, 1, N, N]])
    for seed in range(20):
        found = majority_at_each_k(votes, generator(seed, "test"), orders=3)
        assert found[:, 0].tolist() == [0.5, 0.25, 0.25]
        # triples of the first: correct wins with both correct samples; of the last: with the first sample
        assert found[:, -2].tolist() == [0.5, 0.0, 0.75]
        assert found[:, -1].tolist() == [1.0, 0.0, 1.0]  # two of four; a tie that 1 wins; a tie that correct wins


def test_samples_without_an_answer_do_not_vote() -> None:
    silent, alone = shares([[N, N, N], [N, RIGHT, N]])
    assert silent.tolist() == [0, 0, 0]
    # if only the correct answer has votes, maj@k is pass@k
    assert alone == pytest.approx([pass_at_k(3, 1, k) for k in (1, 2, 3)], abs=0.01)


def test_the_estimate_agrees_with_all_subsets() -> None:
    votes = np.random.default_rng(3).integers(-1, 4, size=(6, 7))
    exact = [
        [np.mean([wins(row, chosen) for chosen in combinations(range(7), k)]) for k in range(1, 8)] for row in votes
    ]
    assert shares(votes.tolist()) == pytest.approx(np.array(exact), abs=0.015)


def wins(row: np.ndarray, chosen: tuple[int, ...]) -> bool:
    """The definition: most votes, then the earliest sample."""
    found = {int(row[i]) for i in chosen} - {N}
    rank = {a: (sum(row[i] == a for i in chosen), -min(i for i in chosen if row[i] == a)) for a in found}
    return bool(found) and max(found, key=lambda a: rank[a]) == RIGHT


def test_a_problem_does_not_depend_on_the_others() -> None:
    votes = [[RIGHT, 1, 1, 2], [2, RIGHT, N, 1], [1, 1, 1, 1]]
    together = shares(votes, orders=50)
    assert (together == np.vstack([shares([row], orders=50) for row in votes])).all()


def test_invalid_votes_are_refused() -> None:
    for bad in (np.zeros((2, 0), dtype=int), np.array([[-2, 0]])):
        with pytest.raises(ContractError, match="votes"):
            majority_at_each_k(bad, generator(0, "test"))
