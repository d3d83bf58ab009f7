"""Noise of the gradient: by hand, against known moments, and the jackknife against one on explicit vectors."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t

from extra_research.noise import Products, interval, noise, noise_of, noise_table, sums_of

RNG = np.random.default_rng(0)


def products(gradients_KD: np.ndarray, name: str = "g") -> Products:
    total_D = gradients_KD.sum(axis=0)
    names = [f"{name}{i}" for i in range(len(gradients_KD))]
    return Products(names, (gradients_KD**2).sum(axis=1), gradients_KD @ total_D, float(total_D @ total_D))


def test_two_groups_by_hand() -> None:
    """g = (3, 0), (1, 2): q = 9, 5; G = (4, 2), |G|^2 = 20; s2 = 7, m2 = 20 / 4 = 5; trace = 2 (7 - 5) = 4, which is
    the sample variance 2 + 2 of the two components; squared mean = 5 - 4 / 2 = 3; ratio = 4 / 3."""
    found = products(np.array([[3.0, 0.0], [1.0, 2.0]]))
    assert found.squared_K.tolist() == [9.0, 5.0]
    assert found.dot_K.tolist() == [12.0, 8.0]
    assert found.total == 20.0
    assert noise([found]) == (7.0, 5.0, 4.0, 3.0)
    assert noise([found]).ratio == pytest.approx(4 / 3)


def test_the_trace_is_the_trace_of_the_sample_covariance() -> None:
    gradients = RNG.normal(size=(7, 5))
    assert noise([products(gradients)]).trace == pytest.approx(np.trace(np.cov(gradients.T)))


def test_the_estimates_are_unbiased() -> None:
    """Mean (1, 0, -2), variances 1, 4, 9: trace 14, |mean|^2 = 5. Four groups, 20,000 times."""
    draws = np.array([1.0, 0.0, -2.0]) + RNG.normal(size=(20_000, 4, 3)) * [1.0, 2.0, 3.0]
    found = np.array([noise([products(gradients)]) for gradients in draws])
    assert found[:, 2].mean() == pytest.approx(14.0, abs=0.2)
    assert found[:, 3].mean() == pytest.approx(5.0, abs=0.2)
    assert found[:, 1].mean() > 8.0  # m2 itself is biased by 14 / 4


def test_a_unit_of_the_gradient_changes_no_ratio() -> None:
    gradients = 1.0 + RNG.normal(size=(9, 3))
    assert noise([products(1e-3 * gradients)]).ratio == pytest.approx(noise([products(gradients)]).ratio)


def test_no_ratio_where_there_is_no_signal_to_be_seen() -> None:
    """g = 1, -1: the mean is 0, so the unbiased squared mean is 0 - 2 / 2 = -1."""
    opposite = products(np.array([[1.0], [-1.0]]))
    assert noise([opposite]) == (1.0, 0.0, 2.0, -1.0)
    assert noise([opposite]).ratio is None
    assert interval([opposite]) == (None, None)


def test_one_group_has_no_covariance() -> None:
    assert noise_of(4.0, 4.0, 1) == (4.0, 4.0, None, None)
    assert noise([products(np.array([[2.0]]))]).ratio is None


def test_a_group_is_left_out_without_its_gradient_at_hand() -> None:
    gradients = RNG.normal(size=(5, 3))
    squared, total, groups = sums_of(products(gradients), "g2")
    rest = np.delete(gradients, 2, axis=0)
    assert (squared, total, groups) == pytest.approx(((rest**2).sum(), (rest.sum(axis=0) ** 2).sum(), 4))
    assert sums_of(products(gradients), "of another batch")[2] == 5


def test_several_batches_are_averaged_before_the_quotient() -> None:
    """Traces 4 and 0, squared means 3 and 16: ratio 2 / 9.5, not the mean of 4 / 3 and 0."""
    batches = [products(np.array([[3.0, 0.0], [1.0, 2.0]])), products(np.array([[4.0], [4.0]]), "h")]
    assert noise(batches)[2:] == (2.0, 9.5)
    assert noise(batches).ratio == pytest.approx(2 / 9.5)


def log_ratio(gradients_KD: np.ndarray) -> float:
    """As in the definition, with numpy's own covariance."""
    trace = np.trace(np.cov(gradients_KD.T))
    return math.log(trace / ((gradients_KD.mean(axis=0) ** 2).sum() - trace / len(gradients_KD)))


def test_the_interval_is_that_of_a_jackknife_over_groups() -> None:
    gradients = 1.0 + RNG.normal(size=(12, 3))
    left_out = np.array([log_ratio(np.delete(gradients, i, axis=0)) for i in range(12)])
    reach = t.ppf(0.975, 11) * math.sqrt(11 / 12 * ((left_out - left_out.mean()) ** 2).sum())
    whole = log_ratio(gradients)
    assert interval([products(gradients)]) == pytest.approx((math.exp(whole - reach), math.exp(whole + reach)))


def test_two_variants_of_the_same_groups_are_compared_group_by_group() -> None:
    """The second is the first times a factor: whatever group is left out, the two ratios are equal."""
    first = 1.0 + RNG.normal(size=(12, 3))
    assert interval([products(3 * first)], [products(first)]) == pytest.approx((1.0, 1.0))
    low, high = interval([products(first + RNG.normal(size=(12, 3)))], [products(first)])
    assert low is not None
    assert high is not None
    assert low < high


def test_the_interval_covers_what_it_should() -> None:
    """Trace 4, |mean|^2 = 1, ratio 4; 60 groups, 400 times: near 95 %, and no less than 90 %."""
    draws = 0.5 + RNG.normal(size=(400, 60, 4))
    found = [interval([products(gradients)]) for gradients in draws]
    covered = [low < 4.0 < high for low, high in found if low is not None and high is not None]
    assert len(covered) == 400
    assert 0.90 <= np.mean(covered) <= 0.99


def test_the_table_holds_every_variant_beside_the_first() -> None:
    first, second = 1.0 + RNG.normal(size=(12, 3)), 1.0 + 2 * RNG.normal(size=(12, 3))
    table = noise_table({"as_it_was": [products(first)], "other": [products(second)]})
    assert table["variant"].to_list() == ["as_it_was", "other"]
    assert table["relative"][0] == 1.0
    ratios = [math.exp(log_ratio(g)) for g in (first, second)]
    assert table["noise_ratio"].to_list() == pytest.approx(ratios, rel=1e-5)
    assert table["relative"][1] == pytest.approx(ratios[1] / ratios[0], rel=1e-5)
    assert table["groups"].to_list() == table["signal_groups"].to_list() == [12, 12]
