"""Mismatch of sampler and policy, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from extra_rl.algorithms.mismatch import mismatch


def logs(*probabilities: float) -> np.ndarray:
    return np.log(np.array(probabilities)).astype(np.float32)


def test_by_hand() -> None:
    """Ratios policy / sampler: 1, 2, 1/4."""
    found = mismatch(logs(0.5, 0.5, 0.1), logs(0.5, 0.25, 0.4))
    assert found.mean == pytest.approx((0 + math.log(2) + math.log(4)) / 3, rel=1e-6)
    assert found.max_ratio == pytest.approx(4.0, rel=1e-6)
    assert found.kl == pytest.approx((0 + (1 - math.log(2)) + (0.25 - 1 + math.log(4))) / 3, rel=1e-6)
    # rank 0.99 * 2 = 1.98, between the second and the third
    assert found.p99 == pytest.approx(math.log(2) + 0.98 * (math.log(4) - math.log(2)), rel=1e-6)


def test_k3_is_unbiased_for_the_divergence_of_the_sampler_from_the_policy() -> None:
    """Every outcome of a sampler with its frequency: 6 of 10, 3 of 10, 1 of 10."""
    sampler, policy = np.array([0.6, 0.3, 0.1]), np.array([0.5, 0.2, 0.3])
    drawn = np.repeat([0, 1, 2], [6, 3, 1])
    found = mismatch(np.log(policy)[drawn], np.log(sampler)[drawn])
    assert found.kl == pytest.approx(float((sampler * np.log(sampler / policy)).sum()), rel=1e-9)


def test_rounding_is_not_lost() -> None:
    """e^d - 1 - d = d^2 / 2, which would be lost in a sum with 1."""
    found = mismatch(np.array([0.0]), np.array([-1e-9]))
    assert found.kl == pytest.approx(0.5e-18, rel=1e-6, abs=0)
    assert found.mean == 1e-9


def test_a_broken_policy_gives_large_and_finite_figures() -> None:
    found = mismatch(np.array([-500.0, 0.0]), np.array([0.0, -500.0]))
    assert found.mean == found.p99 == 500.0
    assert found.max_ratio == pytest.approx(math.exp(20))
    assert found.kl == pytest.approx((math.expm1(20) - 20 + math.expm1(-20) + 20) / 2)


def test_without_a_token_there_is_no_figure() -> None:
    assert mismatch(np.array([]), np.array([])) == (None, None, None, None)
