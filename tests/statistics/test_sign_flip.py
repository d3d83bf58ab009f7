"""The sign-flip test: counted by hand, and all 2^n signs written out."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from extra_rl.errors import ContractError
from extra_rl.statistics import sign_flip
from extra_rl.statistics.sign_flip import sign_flip_p


def by_enumeration(differences: np.ndarray) -> float:
    """In whole numbers, so that ties are ties."""
    means = [
        abs(sum(s * int(d) for s, d in zip(signs, differences, strict=True)))
        for signs in product((1, -1), repeat=len(differences))
    ]
    return float(np.mean([mean >= means[0] for mean in means]))


def test_by_hand() -> None:
    # signs of (1, 2, 4): sums 7, 5, 3, 1, -1, -3, -5, -7. |7|: 2 of 8; (-1, 2, 4) is 5: 4 of 8; (-1, -2, 4) is 1: all
    rows = np.array([[1.0, 2.0, 4.0], [-1.0, 2.0, 4.0], [-1.0, -2.0, 4.0], [-1.0, -2.0, -4.0]])
    np.testing.assert_array_equal(sign_flip_p(rows), [0.25, 0.5, 1.0, 0.25])


@pytest.mark.parametrize("seeds", [2, 5, 10])
def test_the_least_p_is_two_of_all_signs(seeds: int) -> None:
    assert sign_flip_p(np.arange(1.0, seeds + 1)[None]) == pytest.approx([2 / 2**seeds], abs=0)


def test_all_signs_written_out() -> None:
    rows = np.random.default_rng(3).integers(-4, 8, size=(20, 9)).astype(float)  # many ties, some zeros
    np.testing.assert_allclose(sign_flip_p(rows), [by_enumeration(row) for row in rows], atol=1e-15)


def test_ties_are_ties_in_spite_of_rounding() -> None:
    # the sum is 0, but that of tenths is not quite: some signs whose sum is 0 too would fall short of it
    whole = np.array([[-4, 6, 5, -3, -1, -5, 2], [1, 2, 3, -6, 4, 2, 5]])
    np.testing.assert_array_equal(sign_flip_p(whole / 10), [by_enumeration(row) for row in whole])


def test_no_difference_and_one_seed_are_no_evidence() -> None:
    np.testing.assert_array_equal(sign_flip_p(np.zeros((2, 6))), [1.0, 1.0])
    np.testing.assert_array_equal(sign_flip_p(np.array([[3.0], [-1.0]])), [1.0, 1.0])
    assert sign_flip_p(np.empty((0, 4))).shape == (0,)


def test_with_more_seeds_signs_are_sampled_with_a_fixed_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    row = np.random.default_rng(5).normal(0.6, 1.0, size=(1, 12))
    exact = sign_flip_p(row)[0]
    monkeypatch.setattr(sign_flip, "SIGNS", 2**12 - 1)
    sampled = sign_flip_p(row)[0]
    assert sampled != exact
    assert sampled == pytest.approx(exact, abs=4 * 2 * (exact / 2 / 2**12) ** 0.5)
    assert sign_flip_p(row)[0] == sampled


def test_up_to_16_seeds_it_is_exact() -> None:
    assert 2**16 <= sign_flip.SIGNS < 2**17
    assert sign_flip_p(np.ones((1, 16)))[0] == 2 / 2**16


def test_what_cannot_be_tested_is_refused() -> None:
    for rows in (np.ones(3), np.ones((2, 0)), np.array([[1.0, np.nan]])):
        with pytest.raises(ContractError, match="rows of finite differences"):
            sign_flip_p(rows)
