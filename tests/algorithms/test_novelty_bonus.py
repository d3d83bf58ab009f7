"""The novelty bonus: which rollouts receive it, centring before scale, divisors of 0, and its bound."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extra_rl.algorithms.advantage import ROUNDING, novelty_bonus
from extra_rl.errors import ContractError, NumericalError

NOVELTY = np.array([0.2, 0.9, 0.6, 0.4, 0.1, 0.3])
CORRECT = np.array([True, False, True, True, True, False])
GROUPS = np.array([0, 0, 0, 0, 1, 1])


def bonus(**options: object) -> np.ndarray:
    return novelty_bonus(NOVELTY, CORRECT, GROUPS, weight=0.5, **options)  # type: ignore[arg-type]


def test_raw_bonus_goes_to_correct_rollouts_only() -> None:
    np.testing.assert_allclose(bonus(), [0.1, 0.0, 0.3, 0.2, 0.05, 0.0], rtol=1e-15)


def test_centring_is_among_the_correct_of_the_group() -> None:
    # group 0: mean of 0.2, 0.6, 0.4 = 0.4 (with the incorrect 0.9 it would be 0.525); group 1: one correct, so 0
    np.testing.assert_allclose(bonus(centring="among_correct"), [-0.1, 0.0, 0.1, 0.0, 0.0, 0.0], atol=1e-16)


def test_group_max_is_over_the_correct_of_the_group() -> None:
    np.testing.assert_allclose(bonus(scale="group_max"), [0.5 / 3, 0.0, 0.5, 1.0 / 3, 0.5, 0.0], rtol=1e-15)


def test_batch_std_is_over_all_correct_of_the_batch() -> None:
    # correct: 0.2, 0.6, 0.4, 0.1: mean 0.325, population variance 0.57/4 - 0.105625 = 0.036875
    expected = 0.5 * np.array([0.2, 0.0, 0.6, 0.4, 0.1, 0.0]) / 0.036875**0.5
    np.testing.assert_allclose(bonus(scale="batch_std"), expected, rtol=1e-13)


def test_scale_comes_after_centring() -> None:
    # centred: -0.2, 0.2, 0 | 0. Greatest of group 0 is 0.2 (raw: 0.6); sd of (-0.2, 0.2, 0, 0) is sqrt(0.02)
    np.testing.assert_allclose(
        bonus(centring="among_correct", scale="group_max"), [-0.5, 0.0, 0.5, 0.0, 0.0, 0.0], atol=1e-15
    )
    np.testing.assert_allclose(
        bonus(centring="among_correct", scale="batch_std"),
        0.5 * np.array([-0.2, 0.0, 0.2, 0.0, 0.0, 0.0]) / 0.02**0.5,
        atol=1e-15,
    )


@pytest.mark.parametrize("value", [0.0, 0.1])
@pytest.mark.parametrize("centring", ["none", "among_correct"])
@pytest.mark.parametrize(("scale", "least"), [("group_max", 0.5), ("batch_std", 0.0), ("batch_std", 0.5)])
def test_divisor_zero_gives_zero(value: float, centring: str, scale: str, least: float) -> None:
    # three times 0.1: the last bits of mean and deviation are wrong and must not become a divisor
    result = novelty_bonus(
        np.full(3, value),
        np.ones(3, dtype=bool),
        np.zeros(3, dtype=int),
        weight=1.0,
        centring=centring,  # type: ignore[arg-type]
        scale=scale,  # type: ignore[arg-type]
        min_relative_std=least,
    )
    divisor = {"group_max": 1.0, "batch_std": least}[scale] * value * (centring == "none")
    np.testing.assert_allclose(result, np.full(3, value / divisor if divisor else 0.0), rtol=1e-15)


@pytest.mark.parametrize("scale", ["group_max", "batch_std"])
def test_rounding_noise_of_equal_embeddings_is_not_scaled_up(scale: str) -> None:
    def scaled(noise: float) -> np.ndarray:
        novelty = np.array([0.0, noise])
        return novelty_bonus(
            novelty,
            np.ones(2, dtype=bool),
            np.zeros(2, dtype=int),
            weight=1.0,
            scale=scale,  # type: ignore[arg-type]
        )

    np.testing.assert_array_equal(scaled(1.2e-7), [0.0, 0.0])
    assert scaled(10 * ROUNDING)[1] >= 1.0


@pytest.mark.filterwarnings("error")  # the deviation of nothing warns
def test_no_correct_rollout_and_no_rows() -> None:
    none_correct = np.zeros(2, dtype=bool)
    for scale in ("none", "group_max", "batch_std"):
        result = novelty_bonus(np.ones(2), none_correct, np.zeros(2, dtype=int), weight=1.0, scale=scale)
        np.testing.assert_array_equal(result, [0.0, 0.0])
        empty = novelty_bonus(np.ones(0), none_correct[:0], np.zeros(0, dtype=int), weight=1.0, scale=scale)
        assert empty.shape == (0,)


def test_order_of_rows_does_not_matter() -> None:
    order = np.array([3, 5, 0, 4, 2, 1])
    for options in ({}, {"centring": "among_correct"}, {"scale": "group_max"}, {"scale": "batch_std"}):
        moved = novelty_bonus(NOVELTY[order], CORRECT[order], GROUPS[order], weight=0.5, **options)  # type: ignore[arg-type]
        np.testing.assert_allclose(moved, bonus(**options)[order], rtol=1e-13)


def test_novelty_must_be_finite_for_correct_rollouts_only() -> None:
    novelty = np.array([0.5, np.nan])
    found = novelty_bonus(novelty, np.array([True, False]), np.array([0, 0]), weight=1.0)
    np.testing.assert_array_equal(found, [0.5, 0.0])
    with pytest.raises(NumericalError, match=r"rows, the first of them \[1\]"):
        novelty_bonus(novelty, np.array([True, True]), np.array([0, 0]), weight=1.0)


def test_faulty_arguments_are_refused() -> None:
    with pytest.raises(ContractError):
        novelty_bonus(NOVELTY, CORRECT[:1], GROUPS, weight=1.0)
    with pytest.raises(AssertionError):
        bonus(scale="group_maximum")
    with pytest.raises(AssertionError):
        bonus(centring="group")


def batch_std_bonus(novelty: list[float], **options: float) -> np.ndarray:
    """The bonus of one group of correct rollouts, at weight 0.1."""
    rows = len(novelty)
    return novelty_bonus(
        np.array(novelty),
        np.ones(rows, dtype=bool),
        np.zeros(rows, dtype=int),
        weight=0.1,
        scale="batch_std",
        **options,  # type: ignore[arg-type]
    )


def test_a_small_spread_does_not_blow_up_the_bonus() -> None:
    # mean 0.0101, standard deviation 0.0000816: without a bound the bonus would be 12, 120 times the weight
    np.testing.assert_allclose(
        batch_std_bonus([0.0100, 0.0101, 0.0102]), 0.1 * np.array([100, 101, 102]) / (0.5 * 101), rtol=1e-12
    )
    assert batch_std_bonus([0.0100, 0.0101, 0.0102], min_relative_std=0.0).min() > 12


def test_a_spread_above_the_bound_is_the_divisor() -> None:
    novelty = [0.2, 0.6, 0.4, 0.1]  # mean 0.325, standard deviation 0.192: 0.59 of the mean
    np.testing.assert_array_equal(batch_std_bonus(novelty), batch_std_bonus(novelty, min_relative_std=0.0))
    assert (batch_std_bonus(novelty, min_relative_std=0.6) < batch_std_bonus(novelty)).all()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.floats(0.0, 2.0), min_size=1, max_size=12), st.sampled_from([0.1, 0.5, 1.0]))
def test_the_bonus_is_bounded(novelty: list[float], least: float) -> None:
    """Mean at most weight / c; a single one at most weight * (1 / c + sqrt(n - 1)), by Samuelson's inequality."""
    bonus = batch_std_bonus(novelty, min_relative_std=least)
    assert bonus.min() >= 0
    assert bonus.mean() <= 0.1 / least * (1 + 1e-9)
    assert bonus.max() <= 0.1 * (1 / least + (len(novelty) - 1) ** 0.5) * (1 + 1e-9)
