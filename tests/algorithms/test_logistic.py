"""Logistic regression of counts, against fits by hand."""

from __future__ import annotations

import numpy as np
import pytest

from extra_rl.algorithms.logistic import fit
from extra_rl.errors import ContractError


def arrays(*rows: tuple[float, int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    feature, successes, tries = zip(*rows, strict=True)
    return np.array(feature)[:, None], np.array(successes), np.array(tries)


def test_two_points_with_almost_no_ridge_are_fitted_exactly() -> None:
    """1 of 4 at -1 and 3 of 4 at 1: ln(q / (1 - q)) is -ln 3 and ln 3, so intercept 0 and slope ln 3."""
    found = fit(*arrays((-1, 1, 4), (1, 3, 4)), ridge=1e-9)
    assert found.intercept == pytest.approx(0, abs=1e-8)
    assert found.slope_F == pytest.approx([np.log(3)], abs=1e-6)
    assert found.probability(np.array([[-1.0], [0.0], [1.0]])) == pytest.approx([0.25, 0.5, 0.75], abs=1e-6)


def test_the_ridge_shrinks_the_slope_by_the_amount_computed_by_hand() -> None:
    """The gradient is 8 q(w) - 6 + ridge w with q(1/2) = 0.6224593, so ridge 2.0406511 has its zero at w = 1/2."""
    found = fit(*arrays((-1, 1, 4), (1, 3, 4)), ridge=(6 - 8 * 0.6224593312018546) / 0.5)
    assert found.slope_F == pytest.approx([0.5], abs=1e-9)


def test_features_are_standardised_and_a_constant_one_has_no_slope() -> None:
    """5 and 9 have the mean 7 and the deviation 2, so they stand for -1 and 1."""
    features = np.array([[5.0, 3.0], [9.0, 3.0]])
    found = fit(features, np.array([1, 3]), np.array([4, 4]), ridge=1e-9)
    assert (found.mean_F.tolist(), found.scale_F.tolist()) == ([7.0, 3.0], [2.0, 1.0])
    assert found.slope_F == pytest.approx([np.log(3), 0.0], abs=1e-6)
    assert found.probability(np.array([[9.0, 3.0]])) == pytest.approx([0.75], abs=1e-6)


def test_nothing_is_extrapolated_beyond_three_deviations() -> None:
    found = fit(*arrays((-1, 1, 4), (1, 3, 4)), ridge=1e-9)  # deviation 1, slope ln 3
    far = found.probability(np.array([[2.0], [3.0], [50.0], [-50.0]]))
    assert far == pytest.approx([9 / 10, 27 / 28, 27 / 28, 1 / 28], abs=1e-6)


def test_separable_rows_have_a_finite_fit_that_is_a_minimum() -> None:
    features, successes, tries = arrays((-1, 0, 50), (1, 50, 50), (0, 1, 2))
    found = fit(features, successes, tries, ridge=1e-3)
    assert np.isfinite(found.slope_F).all()
    design = (features - found.mean_F) / found.scale_F
    gradient = design.T @ (tries * found.probability(features) - successes) + 1e-3 * found.slope_F
    assert gradient == pytest.approx([0], abs=1e-6)


def test_the_same_rows_give_the_same_bytes() -> None:
    rng = np.random.default_rng(0)
    features, tries = rng.normal(size=(40, 3)), np.full(40, 2)
    successes = rng.integers(0, 3, 40)
    first, second = (fit(features, successes, tries, 1.0) for _ in range(2))
    assert first.slope_F.tobytes() == second.slope_F.tobytes()


@pytest.mark.parametrize(
    ("successes", "tries", "ridge"),
    [((0, 0), (2, 2), 1.0), ((2, 2), (2, 2), 1.0), ((1, 0), (2, 2), 0.0), ((3, 0), (2, 2), 1.0)],
)
def test_counts_without_a_finite_fit_are_refused(
    successes: tuple[int, ...], tries: tuple[int, ...], ridge: float
) -> None:
    with pytest.raises(ContractError, match="successes and failures"):
        fit(np.zeros((2, 1)), np.array(successes), np.array(tries), ridge)
