"""Intervals over seeds: scipy's paired t interval, statsmodels' regression, and bootstraps that can be counted."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from extra_rl.algorithms.pass_at_k import bootstrap_means
from extra_rl.errors import ConfigError, ContractError
from extra_rl.seeding import generator
from extra_rl.statistics.intervals import (
    blocked_t_interval,
    degrees_of_freedom,
    drawn_seeds,
    mean_and_sd,
    two_level_interval,
)
from tests.algorithms.percentile import percentile_interval

R = 4000


def test_the_deviation_has_one_degree_of_freedom() -> None:
    # mean 5; squares 9 + 1 + 1 + 9 = 20; 20 / 3
    assert mean_and_sd(np.array([2.0, 4.0, 6.0, 8.0])) == pytest.approx((5.0, (20 / 3) ** 0.5))


def test_one_seed_has_no_deviation_and_none_no_mean() -> None:
    assert mean_and_sd(np.array([3.5])) == (3.5, None)
    with pytest.raises(ContractError, match="at least one seed"):
        mean_and_sd(np.array([]))


@pytest.mark.parametrize("level", [0.95, 0.8])
def test_one_block_is_the_paired_t_interval_of_scipy(level: float) -> None:
    rng = np.random.default_rng(1)
    arm, base = rng.normal(55, 3, 10), rng.normal(52, 3, 10)
    expected = stats.ttest_rel(arm, base).confidence_interval(level)
    found = blocked_t_interval(arm - base, [0] * 10, level)
    assert found == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_several_blocks_are_a_regression_on_block_indicators() -> None:
    # statsmodels 0.15.0: OLS of the differences on the indicators of the blocks, t_test([4, 3, 2] / 9).conf_int(0.05)
    differences = np.array([4.1, 2.3, 5.9, 1.2, 0.4, -1.7, 2.2, 3.3, -0.6])
    found = blocked_t_interval(differences, [0, 0, 0, 0, 1, 1, 1, 2, 2])
    assert found == pytest.approx((0.13762883200693055, 3.6623711679930695), abs=1e-9)


def test_differences_between_warm_starts_are_not_noise() -> None:
    # within the blocks: residuals -1, 1, -1, 1, pooled variance 4 / 2 = 2; mean 6, standard error sqrt(2 / 4)
    half = stats.t.ppf(0.975, 2) * 0.5**0.5
    found = blocked_t_interval(np.array([0.0, 2.0, 10.0, 12.0]), ["a", "a", "b", "b"])
    assert found == pytest.approx((6 - half, 6 + half))
    unblocked = blocked_t_interval(np.array([0.0, 2.0, 10.0, 12.0]), ["a"] * 4)
    assert unblocked is not None
    assert unblocked[1] - unblocked[0] > 3 * 2 * half  # the same differences without blocks


def test_the_order_of_seeds_does_not_matter() -> None:
    differences, blocks = np.array([0.0, 2.0, 10.0, 12.0, 5.0]), [1, 1, 0, 0, 1]
    turned = blocked_t_interval(differences[::-1], blocks[::-1])
    assert turned == pytest.approx(blocked_t_interval(differences, blocks))


@pytest.mark.parametrize("blocks", [[0], [0, 1, 2]])
def test_a_single_seed_in_every_block_gives_no_interval(blocks: list[int]) -> None:
    assert degrees_of_freedom(blocks) == 0
    assert blocked_t_interval(np.arange(len(blocks), dtype=float), blocks) is None


def test_a_t_interval_of_unusable_input_is_refused() -> None:
    with pytest.raises(ConfigError, match="0 < level < 1"):
        blocked_t_interval(np.ones(2), [0, 0], 95)
    for values, blocks in (([], []), ([1.0, 2.0], [0]), ([1.0, np.nan], [0, 0])):
        with pytest.raises(ContractError, match="must be finite and have one block"):
            blocked_t_interval(np.array(values), blocks)


def resampled(values_SP: np.ndarray) -> np.ndarray:
    """(1, R, S), the way `extra_rl.comparison.differences` draws."""
    return bootstrap_means(values_SP.T, generator(0, "problems"), R)[None]


def variance_of(values_SP: np.ndarray, blocks: list[int]) -> float:
    """Variance of the bootstrap means that an interval is made of, from its central 68.27 %."""
    drawn = drawn_seeds(blocks, generator(0, "seeds"), R)
    low, high = two_level_interval(resampled(values_SP), resampled(np.zeros_like(values_SP)), drawn, 0.6827)
    return ((high - low) / 2) ** 2


def test_seeds_are_drawn_within_their_block() -> None:
    drawn = drawn_seeds([7, 3, 7, 7, 3], generator(0, "x"), R)
    assert drawn.shape == (R, 5)
    assert all(set(drawn[:, place]) == {0, 2, 3} for place in (0, 2, 3))
    assert all(set(drawn[:, place]) == {1, 4} for place in (1, 4))
    assert np.bincount(drawn[:, 0], minlength=4)[[0, 2, 3]] == pytest.approx([R / 3] * 3, rel=0.1)
    assert len({tuple(row) for row in drawn.tolist()}) == 3**3 * 2**2


def test_two_blocks_of_two_seeds_counted_by_hand() -> None:
    # One problem: only seeds are drawn. A block of 0 and 8 has the mean 0, 4, 8 with the chances 1/4, 1/2, 1/4; so has
    # the block of 100 and 108, shifted. The mean of both: 50, 52, 54, 56, 58 with 1/16, 4/16, 6/16, 4/16, 1/16.
    values = np.array([[0.0], [8.0], [100.0], [108.0]])
    drawn = drawn_seeds([0, 0, 1, 1], generator(0, "x"), R)
    arguments = (resampled(values), resampled(np.zeros_like(values)), drawn)
    assert two_level_interval(*arguments) == (50.0, 58.0)
    assert two_level_interval(*arguments, 0.8) == (52.0, 56.0)  # 10 % and 90 % fall into the 4/16
    assert two_level_interval(*arguments, 0.2) == (54.0, 54.0)


def test_problems_are_the_same_for_all_seeds_of_a_resample() -> None:
    # Every seed has the same differences: then seeds add no variance, and 16 seeds equal one.
    problems = np.random.default_rng(0).normal(0, 10, 50)
    crossed = variance_of(np.tile(problems, (16, 1)), [0] * 16)
    assert crossed == pytest.approx(
        problems.var() / 50, rel=0.1
    )  # drawn anew for each seed, it would be 16 times smaller


def test_problems_are_the_same_for_both_arms() -> None:
    # Hard and easy problems differ by 100, the arms by 1 on each: paired, no noise is left.
    base = np.tile(np.repeat([0.0, 100.0], 20), (3, 1))
    drawn = drawn_seeds([0] * 3, generator(0, "x"), R)
    assert two_level_interval(resampled(base + 1), resampled(base), drawn) == pytest.approx((1.0, 1.0), abs=1e-9)


def test_both_levels_add_up() -> None:
    rng = np.random.default_rng(1)
    seeds, problems = rng.normal(0, 2, 20), rng.normal(0, 10, 100)
    both = variance_of(seeds[:, None] + problems[None, :], [0] * 20)
    assert both == pytest.approx(seeds.var() / 20 + problems.var() / 100, rel=0.1)


def test_one_seed_drawn_again_and_again_is_the_bootstrap_over_problems() -> None:
    problems = np.random.default_rng(2).normal(3, 10, 60)
    drawn = np.zeros((R, 1), dtype=np.int64)
    found = two_level_interval(resampled(problems[None]), resampled(np.zeros((1, 60))), drawn)
    assert found == pytest.approx(percentile_interval(problems, generator(1), R), abs=0.3)


def test_benchmarks_have_equal_weight_and_share_their_seeds() -> None:
    # One problem each. What a seed gains on one benchmark it loses on the other, so their mean is 2 in every draw.
    first, second = (np.array([[0.0], [8.0]]), np.array([[4.0], [-4.0]]))
    arm = np.concatenate([resampled(first), resampled(second)])
    drawn = drawn_seeds([0, 0], generator(0, "x"), R)
    assert two_level_interval(arm, np.zeros_like(arm), drawn) == (2.0, 2.0)


def test_a_draw_without_a_counted_problem_is_left_out() -> None:
    values = np.array([[np.nan, 5.0], [np.nan, 5.0]])
    drawn = drawn_seeds([0, 0], generator(0, "x"), R)
    assert np.isnan(resampled(values)).any()
    assert two_level_interval(resampled(values), resampled(np.zeros((2, 2))), drawn) == (5.0, 5.0)


def test_a_bootstrap_of_unusable_input_is_refused() -> None:
    arm, drawn = np.zeros((1, 10, 3)), np.zeros((10, 3), dtype=np.int64)
    with pytest.raises(ConfigError, match="0 < level < 1"):
        two_level_interval(arm, arm, drawn, 1.0)
    for other, seeds in ((np.zeros((1, 10, 2)), drawn), (arm, drawn[:, :2])):
        with pytest.raises(ContractError, match="shapes disagree"):
            two_level_interval(arm, other, seeds)
    with pytest.raises(ConfigError, match="resamples"):
        drawn_seeds([0], generator(0), 0)
    with pytest.raises(ContractError, match="needs seeds"):
        drawn_seeds([], generator(0), 10)
