"""The cheapest action: distribution of pass rates, probability of a useful group, and the choice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pytest

from extra_rl.algorithms.cheapest import Beta, cheapest, fit_beta, useful_by_branching, useful_by_resampling
from extra_rl.errors import ContractError


def fitted(right: Sequence[int], judged: Sequence[int]) -> Beta:
    return fit_beta(np.array(right, np.int64), np.array(judged, np.int64))


def log_likelihood(beta: Beta, right: Sequence[int], judged: Sequence[int]) -> float:
    """sum_n ln B(a + s, b + n - s) - ln B(a, b), by log-gamma."""

    def log_b(a: float, b: float) -> float:
        return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)

    return sum(log_b(beta.a + s, beta.b + n - s) - log_b(beta.a, beta.b) for s, n in zip(right, judged, strict=True))


def test_more_rollouts_by_hand() -> None:
    """Beta(1, 1) after 0 of 4: failures in a row with 5/6 and 6/7, so that 2 more miss with 5/7."""
    uniform = Beta(1, 1)
    assert useful_by_resampling(uniform, 0, 4, 2, separate=False) == pytest.approx(2 / 7)
    # a separate group of two is all correct with 1/6 * 2/7 = 1/21
    assert useful_by_resampling(uniform, 0, 4, 2, separate=True) == pytest.approx(2 / 7 - 1 / 21)
    # after 1 of 4: misses with 4/6 * 5/7, all correct with 2/6 * 3/7
    assert useful_by_resampling(uniform, 1, 4, 2, separate=True) == pytest.approx(1 - 20 / 42 - 6 / 42)
    assert useful_by_resampling(uniform, 0, 0, 1, separate=True) == pytest.approx(0)


def test_the_uniform_prior_is_the_formula_of_a_first_hit() -> None:
    """1 - prod_{j<m} (1 + n - s + j) / (2 + n + j) with n = 8, s = 0, m = 8 is 1 - 9/17."""
    assert useful_by_resampling(Beta(1, 1), 0, 8, 8, separate=False) == pytest.approx(8 / 17)


def test_branches_by_hand() -> None:
    """q 1/2 and 1/4, two continuations each: none correct with (1/2)^2 (3/4)^2 = 9/64, all with 1/4 * 1/16 = 1/64."""
    assert useful_by_branching([0.5, 0.25], 2, separate=False) == pytest.approx(55 / 64)
    assert useful_by_branching([0.5, 0.25], 2, separate=True) == pytest.approx(54 / 64)
    assert useful_by_branching([], 2, separate=True) == 0


def test_the_fit_is_the_most_likely_distribution() -> None:
    """Two of eight groups have successes: no distribution near the fit is more likely, nor is the uniform one."""
    right, judged = [0] * 6 + [3, 7], [8] * 8
    found = fitted(right, judged)
    best = log_likelihood(found, right, judged)
    assert best > log_likelihood(Beta(1, 1), right, judged) + 1
    for a in (0.99, 1.01):
        for b in (0.99, 1.01):
            assert log_likelihood(Beta(found.a * a, found.b * b), right, judged) < best


def test_one_group_in_a_hundred_is_no_reason_to_sample_an_unsolved_problem_again() -> None:
    found = fitted([0] * 99 + [4], [8] * 100)
    assert useful_by_resampling(Beta(1, 1), 0, 8, 8, separate=False) > 0.4
    assert useful_by_resampling(found, 0, 8, 8, separate=False) < 0.02


def test_a_group_that_was_ended_early_counts_as_what_it_is() -> None:
    """Half groups: the likelihood of 0 of 4 is not that of 0 of 8, so fewer rollouts say less against a success."""
    early, whole = fitted([0] * 9 + [4], [4] * 9 + [8]), fitted([0] * 9 + [4], [8] * 10)
    assert early.a / (early.a + early.b) > whole.a / (whole.a + whole.b)


def test_without_a_success_or_a_failure_the_mean_is_that_of_laplace() -> None:
    assert fitted([], []) == Beta(1, 1)  # the cold start
    assert fitted([0, 0], [4, 4]) == pytest.approx(Beta(2 / 10, 18 / 10))
    assert fitted([4, 4], [4, 4]) == pytest.approx(Beta(18 / 10, 2 / 10))


def test_equal_pass_rates_give_a_finite_distribution() -> None:
    found = fitted([4] * 50, [8] * 50)
    assert math.isfinite(found.a)
    assert found.a == pytest.approx(found.b)
    assert found.a > 10


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(ContractError, match="more correct"):
        fitted([3], [2])


@pytest.mark.parametrize(
    ("branch", "resample", "price", "action"),
    [
        (3.0, 2.0, 1.0, "branch"),
        (2.0, 3.0, 1.0, "resample"),
        (2.0, 2.0, 2.0, "branch"),  # equal: the group is at hand
        (2.0, 3.0, 3.5, "none"),
        (None, 3.0, 1.0, "resample"),
        (2.0, None, 1.0, "branch"),
        (None, None, 0.0, "none"),
        (0.0, 0.0, 0.0, "none"),
        (1e-9, 0.0, 0.0, "branch"),  # without a useful fresh group any chance is better
    ],
)
def test_the_action_with_most_useful_groups_per_token(
    branch: float | None, resample: float | None, price: float, action: Literal["branch", "resample", "none"]
) -> None:
    assert cheapest(branch, resample, price) == action
