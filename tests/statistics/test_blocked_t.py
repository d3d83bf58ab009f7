"""The blocked t interval: scipy's paired one in one block, statsmodels' regression in several, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from extra_rl.errors import ConfigError, ContractError
from extra_rl.statistics.blocked_t import blocked_t_interval, degrees_of_freedom


@pytest.mark.parametrize("level", [0.95, 0.8])
def test_one_block_is_the_paired_t_interval_of_scipy(level: float) -> None:
    rng = np.random.default_rng(1)
    arm, base = rng.normal(55, 3, 10), rng.normal(52, 3, 10)
    expected = stats.ttest_rel(arm, base).confidence_interval(level)
    found = blocked_t_interval(arm - base, [0] * 10, level)
    assert found == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_several_blocks_are_a_regression_on_them() -> None:
    # statsmodels 0.15.0: OLS of the differences on the indicators of the blocks, t_test([4, 3, 2] / 9).conf_int(0.05)
    differences = np.array([4.1, 2.3, 5.9, 1.2, 0.4, -1.7, 2.2, 3.3, -0.6])
    found = blocked_t_interval(differences, [0, 0, 0, 0, 1, 1, 1, 2, 2])
    assert found == pytest.approx((0.13762883200693055, 3.6623711679930695), abs=1e-9)


def test_what_differs_between_warm_starts_is_no_noise() -> None:
    # within the blocks: residuals -1, 1, -1, 1, pooled variance 4 / 2 = 2; mean 6, standard error sqrt(2 / 4)
    half = stats.t.ppf(0.975, 2) * 0.5**0.5
    found = blocked_t_interval(np.array([0.0, 2.0, 10.0, 12.0]), ["a", "a", "b", "b"])
    assert found == pytest.approx((6 - half, 6 + half))
    unblocked = blocked_t_interval(np.array([0.0, 2.0, 10.0, 12.0]), ["a"] * 4)
    assert unblocked is not None
    assert unblocked[1] - unblocked[0] > 3 * 2 * half  # the same, were the blocks not known


def test_the_order_of_seeds_does_not_matter() -> None:
    differences, blocks = np.array([0.0, 2.0, 10.0, 12.0, 5.0]), [1, 1, 0, 0, 1]
    turned = blocked_t_interval(differences[::-1], blocks[::-1])
    assert turned == pytest.approx(blocked_t_interval(differences, blocks))


@pytest.mark.parametrize("blocks", [[0], [0, 1, 2]])
def test_a_single_seed_in_every_block_gives_no_interval(blocks: list[int]) -> None:
    assert degrees_of_freedom(blocks) == 0
    assert blocked_t_interval(np.arange(len(blocks), dtype=float), blocks) is None


def test_what_cannot_be_computed_is_refused() -> None:
    with pytest.raises(ConfigError, match="0 < level < 1"):
        blocked_t_interval(np.ones(2), [0, 0], 95)
    for values, blocks in (([], []), ([1.0, 2.0], [0]), ([1.0, np.nan], [0, 0])):
        with pytest.raises(ContractError, match="one block a difference, finite"):
            blocked_t_interval(np.array(values), blocks)
