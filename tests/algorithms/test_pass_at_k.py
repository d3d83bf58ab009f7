"""Unbiased pass@k and its bootstrap interval."""

from itertools import combinations

import numpy as np
import pytest

from extra_rl.algorithms.pass_at_k import (
    bootstrap_means,
    pass_at_each_k,
    pass_at_k,
    pass_at_k_each,
)
from extra_rl.errors import ConfigError, ContractError


def test_by_hand() -> None:
    # 4 samples, 2 correct, 2 drawn: one of six pairs has no correct sample. The biased 1 - (1/2)^2 is 3/4.
    assert pass_at_k(4, 2, 2) == 5 / 6
    assert pass_at_k(16, 1, 1) == 1 / 16
    assert pass_at_k(16, 1, 4) == 1 / 4
    assert pass_at_k(16, 1, 16) == 1.0


@pytest.mark.parametrize("n", [1, 5, 7])
def test_equals_the_share_of_subsets_with_a_correct_sample(n: int) -> None:
    for c in range(n + 1):
        for k in range(1, n + 1):
            subsets = list(combinations(range(n), k))
            share = sum(min(subset) < c for subset in subsets) / len(subsets)
            assert pass_at_k(n, c, k) == share


def test_no_correct_sample_and_too_few_incorrect_ones() -> None:
    assert pass_at_k(10, 0, 10) == 0.0
    assert pass_at_k(10, 4, 7) == 1.0  # only six are incorrect
    assert pass_at_k(10, 4, 6) < 1.0


def test_exact_for_many_samples() -> None:
    # one correct of n: k / n, where factorials overflow and 1 - product loses its digits
    assert pass_at_k(100_000, 1, 3) == 3 / 100_000
    assert pass_at_k(2000, 1, 1000) == 0.5


def test_errors() -> None:
    with pytest.raises(ConfigError, match=r"pass@17 .* has 16 samples"):
        pass_at_k(16, 3, 17)
    with pytest.raises(ConfigError):
        pass_at_k(16, 3, 0)
    for c in (-1, 17):
        with pytest.raises(ContractError, match=rf"^{c} .* 16"):
            pass_at_k(16, c, 4)


def test_the_problems_of_a_benchmark_may_have_different_numbers_of_samples() -> None:
    n, c = np.array([4, 2, 100]), np.array([2, 0, 100])
    np.testing.assert_array_equal(pass_at_k_each(n, c, 2), [5 / 6, 0.0, 1.0])
    with pytest.raises(ConfigError):
        pass_at_k_each(np.array([8, 4]), np.array([1, 1]), 8)
    with pytest.raises(ValueError, match="shorter"):
        pass_at_k_each(np.array([4, 4]), np.array([1]), 1)


def interval(
    values: np.ndarray, rng: np.random.Generator, level: float = 0.95, resamples: int = 2000
) -> tuple[float, float]:
    """Quantiles of the bootstrapped mean of one figure."""
    means = bootstrap_means(values[:, None], rng, resamples)[:, 0]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def test_interval_of_a_coin() -> None:
    # 100 problems, half solved: sd of the mean 0.05, 95 % interval 0.5 +- 0.098, 50 % interval 0.5 +- 0.034
    values = np.repeat([0.0, 1.0], 50)
    low, high = interval(values, np.random.default_rng(0), resamples=4000)
    assert low == pytest.approx(0.402, abs=0.015)
    assert high == pytest.approx(0.598, abs=0.015)
    low, high = interval(values, np.random.default_rng(0), level=0.5, resamples=4000)
    assert low == pytest.approx(0.466, abs=0.015)
    assert high == pytest.approx(0.534, abs=0.015)


def test_interval_is_seeded() -> None:
    values = np.random.default_rng(1).random(30)
    first = interval(values, np.random.default_rng(5))
    assert first == interval(values, np.random.default_rng(5)) != interval(values, np.random.default_rng(6))


def test_interval_has_its_nominal_coverage() -> None:
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(100):
        low, high = interval(rng.normal(3.0, 1.0, size=60), rng, level=0.9, resamples=200)
        covered += low <= 3.0 <= high
    # 90 expected, standard deviation 3; the percentile interval is known to cover a little less
    assert 78 <= covered <= 98


def test_interval_degenerate() -> None:
    rng = np.random.default_rng(0)
    assert interval(np.array([0.25]), rng) == (0.25, 0.25)
    assert interval(np.ones(5), rng) == (1.0, 1.0)


def test_the_table_of_all_k_agrees_with_each_k_alone() -> None:
    n, c = np.array([4, 2, 4, 0]), np.array([1, 2, 1, 0])
    table = pass_at_each_k(n, c, 4)
    for k in (1, 2):
        assert table[:3, k - 1].tolist() == pass_at_k_each(n[:3], c[:3], k).tolist()
    assert table[0].tolist() == [0.25, 0.5, 0.75, 1.0]
    assert np.isnan(table[1]).tolist() == [False, False, True, True]
    assert np.isnan(table[3]).all()


def test_all_figures_of_a_resample_share_its_problems() -> None:
    values = np.array([[0.0, 1.0, np.nan], [1.0, 0.0, 5.0], [1.0, 0.0, np.nan]])
    means = bootstrap_means(values, np.random.default_rng(0), resamples=4000)
    assert means.shape == (4000, 3)
    assert means[:, 0] + means[:, 1] == pytest.approx(1.0)
    assert set(np.round(3 * means[:, 0], 9)) == {0.0, 1.0, 2.0, 3.0}
    assert means[:, 0].mean() == pytest.approx(2 / 3, abs=0.02)
    # the third figure counts the second problem only: 5 wherever it is drawn, NaN in (2/3)^3 of the draws
    assert set(means[:, 2][np.isfinite(means[:, 2])]) == {5.0}
    assert np.isnan(means[:, 2]).mean() == pytest.approx(8 / 27, abs=0.03)


def test_no_problems_and_no_resamples_are_refused() -> None:
    with pytest.raises(ContractError, match="0 and 2000"):
        bootstrap_means(np.zeros((0, 2)), np.random.default_rng(0))
    with pytest.raises(ConfigError, match="1 and 0"):
        bootstrap_means(np.zeros((1, 2)), np.random.default_rng(0), resamples=0)
