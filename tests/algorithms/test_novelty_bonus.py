"""The novelty bonus: whom it is paid to, centring before scale, and divisors of 0."""

import numpy as np
import pytest

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
    # group 0: mean of 0.2, 0.6, 0.4 = 0.4 (with the wrong 0.9 it would be 0.525); group 1: one correct, so 0
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
@pytest.mark.parametrize("scale", ["group_max", "batch_std"])
def test_divisor_zero_gives_zero(value: float, centring: str, scale: str) -> None:
    # three times 0.1: mean and deviation are off in the last bit and must not become a divisor
    result = novelty_bonus(
        np.full(3, value),
        np.ones(3, dtype=bool),
        np.zeros(3, dtype=int),
        weight=1.0,
        centring=centring,  # type: ignore[arg-type]
        scale=scale,  # type: ignore[arg-type]
    )
    keeps = value > 0 and centring == "none" and scale == "group_max"
    np.testing.assert_array_equal(result, np.full(3, 1.0 if keeps else 0.0))


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
def test_nobody_correct_and_no_rows() -> None:
    nobody = np.zeros(2, dtype=bool)
    for scale in ("none", "group_max", "batch_std"):
        result = novelty_bonus(np.ones(2), nobody, np.zeros(2, dtype=int), weight=1.0, scale=scale)
        np.testing.assert_array_equal(result, [0.0, 0.0])
        empty = novelty_bonus(np.ones(0), nobody[:0], np.zeros(0, dtype=int), weight=1.0, scale=scale)
        assert empty.shape == (0,)


def test_order_of_rows_does_not_matter() -> None:
    turn = np.array([3, 5, 0, 4, 2, 1])
    for options in ({}, {"centring": "among_correct"}, {"scale": "group_max"}, {"scale": "batch_std"}):
        turned = novelty_bonus(NOVELTY[turn], CORRECT[turn], GROUPS[turn], weight=0.5, **options)  # type: ignore[arg-type]
        np.testing.assert_allclose(turned, bonus(**options)[turn], rtol=1e-13)


def test_novelty_must_be_finite_where_it_is_paid_only() -> None:
    novelty = np.array([0.5, np.nan])
    paid = novelty_bonus(novelty, np.array([True, False]), np.array([0, 0]), weight=1.0)
    np.testing.assert_array_equal(paid, [0.5, 0.0])
    with pytest.raises(NumericalError, match=r"rows, the first of them \[1\]"):
        novelty_bonus(novelty, np.array([True, True]), np.array([0, 0]), weight=1.0)


def test_faulty_arguments_are_refused() -> None:
    with pytest.raises(ContractError):
        novelty_bonus(NOVELTY, CORRECT[:1], GROUPS, weight=1.0)
    with pytest.raises(AssertionError):
        bonus(scale="group_maximum")
    with pytest.raises(AssertionError):
        bonus(centring="group")
