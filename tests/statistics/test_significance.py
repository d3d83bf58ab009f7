"""The sign-flip test by hand and by enumeration of all 2^n signs; Holm's correction by hand and as in statsmodels."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from extra_rl.errors import ContractError
from extra_rl.statistics import significance
from extra_rl.statistics.significance import holm, least_adjusted_p, sign_flip_p


def by_enumeration(differences: np.ndarray) -> float:
    """In whole numbers, so that ties are ties."""
    means = [
        abs(sum(s * int(d) for s, d in zip(signs, differences, strict=True)))
        for signs in product((1, -1), repeat=len(differences))
    ]
    return float(np.mean([mean >= means[0] for mean in means]))


def test_sign_flip_by_hand() -> None:
    # signs of (1, 2, 4): sums 7, 5, 3, 1, -1, -3, -5, -7. |7|: 2 of 8; (-1, 2, 4) is 5: 4 of 8; (-1, -2, 4) is 1: all
    rows = np.array([[1.0, 2.0, 4.0], [-1.0, 2.0, 4.0], [-1.0, -2.0, 4.0], [-1.0, -2.0, -4.0]])
    np.testing.assert_array_equal(sign_flip_p(rows), [0.25, 0.5, 1.0, 0.25])


@pytest.mark.parametrize("seeds", [2, 5, 10])
def test_the_smallest_p_is_two_of_all_signs(seeds: int) -> None:
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
    monkeypatch.setattr(significance, "SIGNS", 2**12 - 1)
    sampled = sign_flip_p(row)[0]
    assert sampled != exact
    assert sampled == pytest.approx(exact, abs=4 * 2 * (exact / 2 / 2**12) ** 0.5)
    assert sign_flip_p(row)[0] == sampled


def test_up_to_16_seeds_it_is_exact() -> None:
    assert 2**16 <= significance.SIGNS < 2**17
    assert sign_flip_p(np.ones((1, 16)))[0] == 2 / 2**16


def test_unusable_differences_are_refused() -> None:
    for rows in (np.ones(3), np.ones((2, 0)), np.array([[1.0, np.nan]])):
        with pytest.raises(ContractError, match="rows of finite differences"):
            sign_flip_p(rows)


def test_holm_by_hand() -> None:
    # in order 0.01, 0.02, 0.04: 3 * 0.01, 2 * 0.02, 1 * 0.04
    assert holm(np.array([0.04, 0.01, 0.02])) == pytest.approx([0.04, 0.03, 0.04])
    # a later p is never below an earlier one: 3 * 0.02 = 0.06, 2 * 0.021 = 0.042 -> 0.06; and none is above 1
    assert holm(np.array([0.02, 0.021, 0.9])) == pytest.approx([0.06, 0.06, 0.9])
    assert holm(np.array([0.6, 0.7])) == pytest.approx([1.0, 1.0])


def test_holm_as_in_statsmodels() -> None:
    # statsmodels 0.15.0: multipletests([...], method="holm")[1]
    found = holm(np.array([0.01, 0.04, 0.03, 0.005, 0.2, 0.03]))
    assert found == pytest.approx([0.05, 0.12, 0.12, 0.03, 0.2, 0.12], abs=1e-12)


def test_one_test_needs_no_correction_and_an_empty_family_is_allowed() -> None:
    assert holm(np.array([0.03])) == pytest.approx([0.03])
    assert holm(np.array([])).shape == (0,)


@pytest.mark.parametrize("p", [-0.1, 1.1, np.nan])
def test_a_value_that_is_no_p_is_refused(p: float) -> None:
    with pytest.raises(ContractError, match="between 0 and 1"):
        holm(np.array([0.5, p]))


def test_the_smallest_adjusted_p() -> None:
    assert least_adjusted_p(seeds=5, tests=1) == 0.0625
    assert least_adjusted_p(seeds=10, tests=25) == pytest.approx(0.0488, abs=1e-4)
    assert least_adjusted_p(seeds=10, tests=26) > 0.05
    assert least_adjusted_p(seeds=3, tests=8) == 1.0


@pytest.mark.parametrize("seeds", [16, 17, 40])
def test_the_smallest_p_is_the_one_that_the_test_reaches(seeds: int) -> None:
    """Above 16 seeds signs are sampled, so 2 / 2^n is out of reach: 40 seeds would claim 1.8e-12."""
    reached = sign_flip_p(np.arange(1.0, seeds + 1)[None])[0]
    if seeds == 17:  # about 0.8 of the sampled assignments are as extreme as the observed one
        assert least_adjusted_p(seeds, tests=1) <= reached < 10 * least_adjusted_p(seeds, tests=1)
    else:
        assert least_adjusted_p(seeds, tests=1) == reached
    assert least_adjusted_p(seeds, tests=3) == pytest.approx(3 * least_adjusted_p(seeds, tests=1))


def test_the_smallest_p_of_very_many_seeds_does_not_overflow() -> None:
    assert least_adjusted_p(seeds=5000, tests=1) == 2 / (1 + significance.SIGNS)
