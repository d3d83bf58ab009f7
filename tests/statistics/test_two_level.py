"""The two-level bootstrap: cases that can be counted, and variances that are known."""

from __future__ import annotations

import numpy as np
import pytest

from extra_rl.algorithms.pass_at_k import bootstrap_means
from extra_rl.errors import ConfigError, ContractError
from extra_rl.seeding import generator
from extra_rl.statistics.two_level import drawn_seeds, two_level_interval
from tests.algorithms.percentile import percentile_interval

R = 4000


def resampled(values_SP: np.ndarray) -> np.ndarray:
    """(1, R, S), the way `extra_rl.comparison.differences` draws."""
    return bootstrap_means(values_SP.T, generator(0, "problems"), R)[None]


def spread(values_SP: np.ndarray, blocks: list[int]) -> float:
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
    # Every seed has the same differences: then seeds add nothing, and 16 seeds are worth one.
    problems = np.random.default_rng(0).normal(0, 10, 50)
    crossed = spread(np.tile(problems, (16, 1)), [0] * 16)
    assert crossed == pytest.approx(problems.var() / 50, rel=0.1)  # drawn anew for each seed, it were 16 times smaller


def test_problems_are_the_same_for_both_arms() -> None:
    # Hard and easy problems differ by 100, the arms by 1 on each: paired, nothing is left to chance.
    base = np.tile(np.repeat([0.0, 100.0], 20), (3, 1))
    drawn = drawn_seeds([0] * 3, generator(0, "x"), R)
    assert two_level_interval(resampled(base + 1), resampled(base), drawn) == pytest.approx((1.0, 1.0), abs=1e-9)


def test_both_levels_add_up() -> None:
    rng = np.random.default_rng(1)
    seeds, problems = rng.normal(0, 2, 20), rng.normal(0, 10, 100)
    both = spread(seeds[:, None] + problems[None, :], [0] * 20)
    assert both == pytest.approx(seeds.var() / 20 + problems.var() / 100, rel=0.1)


def test_one_seed_drawn_again_and_again_is_the_bootstrap_over_problems() -> None:
    problems = np.random.default_rng(2).normal(3, 10, 60)
    drawn = np.zeros((R, 1), dtype=np.int64)
    found = two_level_interval(resampled(problems[None]), resampled(np.zeros((1, 60))), drawn)
    assert found == pytest.approx(percentile_interval(problems, generator(1), R), abs=0.3)


def test_benchmarks_weigh_the_same_and_share_their_seeds() -> None:
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


def test_what_cannot_be_computed_is_refused() -> None:
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
