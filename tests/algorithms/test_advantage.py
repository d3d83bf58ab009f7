"""Group normalisation, group types, and the combination of reward and bonus to one advantage."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extra_rl.algorithms.advantage import (
    bonus_share,
    combine,
    group_types,
    normalise_groups,
    positive_only,
)
from extra_rl.errors import ContractError, NumericalError

NAN = float("nan")


def groups(*labels: int) -> np.ndarray:
    return np.array(labels)


def test_one_correct_rollout_of_four_by_hand() -> None:
    # mean 1/4; squared deviations 9/16 + 3/16 = 3/4; ddof 1: sd = sqrt(1/4) = 1/2; ddof 0: sqrt(3/16)
    rewards = np.array([1.0, 0.0, 0.0, 0.0])
    one_group = groups(7, 7, 7, 7)
    np.testing.assert_allclose(normalise_groups(rewards, one_group, eps=0.0), [1.5, -0.5, -0.5, -0.5], rtol=1e-15)
    np.testing.assert_allclose(
        normalise_groups(rewards, one_group, std_ddof=0, eps=0.0),
        [3**0.5, -(3**-0.5), -(3**-0.5), -(3**-0.5)],
        rtol=1e-15,
    )
    np.testing.assert_array_equal(
        normalise_groups(rewards, one_group, divide_by_std=False), [0.75, -0.25, -0.25, -0.25]
    )


def test_eps_is_added_to_the_deviation() -> None:
    # sd 1/2, eps 1/2: the divisor is 1. Added to the variance it would be sqrt(3/4).
    rewards = np.array([1.0, 0.0, 0.0, 0.0])
    np.testing.assert_array_equal(normalise_groups(rewards, groups(0, 0, 0, 0), eps=0.5), [0.75, -0.25, -0.25, -0.25])
    default = normalise_groups(rewards, groups(0, 0, 0, 0))
    np.testing.assert_allclose(default[0], 0.75 / (0.5 + 1e-6), rtol=1e-14)


def test_interleaved_groups_of_unequal_size_are_independent() -> None:
    # label 5: rewards 0, 1, 2 (mean 1, sd 1); label -3: 10, 30 (mean 20, sd sqrt(200))
    rewards = np.array([0.0, 10.0, 1.0, 30.0, 2.0])
    advantage = normalise_groups(rewards, groups(5, -3, 5, -3, 5), eps=0.0)
    np.testing.assert_allclose(advantage, [-1.0, -(0.5**0.5), 0.0, 0.5**0.5, 1.0], rtol=1e-15)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 1e9 / 3])
@pytest.mark.parametrize("options", [{}, {"eps": 0.0}, {"std_ddof": 0}, {"divide_by_std": False}])
def test_equal_rewards_give_exactly_zero(value: float, options: dict[str, float]) -> None:
    # three times 0.1: the mean is 0.10000000000000002 and a naive deviation is not 0
    advantage = normalise_groups(np.full(3, value), groups(0, 0, 0), **options)  # type: ignore[arg-type]
    np.testing.assert_array_equal(advantage, np.zeros(3))


def test_an_excluded_row_is_not_in_the_statistics_of_its_group() -> None:
    # without the NaN row: 1, 0 -> mean 1/2, sd sqrt(1/2). With it as a 0 the mean would be 1/3.
    advantage = normalise_groups(np.array([1.0, NAN, 0.0]), groups(0, 0, 0), eps=0.0)
    np.testing.assert_allclose(advantage, [0.5**0.5, 0.0, -(0.5**0.5)], rtol=1e-15)


def test_fewer_than_two_judged_rows_give_zero() -> None:
    rewards = np.array([1.0, NAN, NAN, NAN, 1.0])  # one of two judged; none of two; a group of one
    for divide_by_std in (True, False):
        advantage = normalise_groups(rewards, groups(0, 0, 1, 1, 2), divide_by_std=divide_by_std)
        np.testing.assert_array_equal(advantage, np.zeros(5))


def test_no_rows_and_float32() -> None:
    none = np.array([], dtype=np.float64)
    assert normalise_groups(none, none.astype(np.int64)).shape == (0,)
    assert group_types(none >= 1, none, none.astype(np.int64)).shape == (0,)
    single = normalise_groups(np.array([1, 0, 0, 0], dtype=np.float32), groups(0, 0, 0, 0), eps=0.0)
    assert single.dtype == np.float64
    np.testing.assert_allclose(single, [1.5, -0.5, -0.5, -0.5], rtol=1e-15)


def test_invalid_rewards_are_refused() -> None:
    with pytest.raises(NumericalError, match=r"infinite in 1 rows.* \[1\]"):
        normalise_groups(np.array([0.0, np.inf]), groups(0, 0))
    with pytest.raises(ContractError, match="one length"):
        normalise_groups(np.array([0.0, 1.0]), groups(0))
    with pytest.raises(ContractError, match="one-dimensional"):
        normalise_groups(np.zeros((2, 1)), np.zeros((2, 1), dtype=int))


def test_group_types() -> None:
    """By correctness, here a reward of 1 or more: a group with partial credit may have a signal and any type."""
    cases = {
        0: ([0.0, 0.0], "all_incorrect"),
        1: ([1.0, 1.0], "all_correct"),
        2: ([0.0, 1.0], "mixed"),
        3: ([0.5, 0.25], "all_incorrect"),  # partial credit
        4: ([-1.0, 0.0], "all_incorrect"),
        5: ([1.0, 2.0], "all_correct"),
        6: ([1.0, NAN], "excluded"),
        7: ([NAN, NAN], "excluded"),
        8: ([0.0, 0.0, NAN], "all_incorrect"),  # the excluded row has the type of its group
        9: ([1.0, 0.5], "mixed"),
    }
    rewards = np.concatenate([np.array(values) for values, _ in cases.values()])
    labels = np.concatenate([[label] * len(values) for label, (values, _) in cases.items()])
    expected = [name for values, name in cases.values() for _ in values]
    shuffle = np.random.default_rng(0).permutation(len(rewards))
    types = group_types(rewards[shuffle] >= 1, rewards[shuffle], labels[shuffle])
    assert types.tolist() == [expected[row] for row in shuffle]


def test_bonus_is_added_after_normalisation_and_not_normalised_again() -> None:
    rewards = np.array([1.0, 0.0, 1.0, 1.0])
    bonus = np.array([0.3, 0.0, 0.1, 0.2])
    result = combine(rewards, bonus, groups(0, 0, 1, 1), eps=0.0)
    half = 0.5**0.5
    np.testing.assert_allclose(result.normalised_N, [half, -half, 0.0, 0.0], rtol=1e-15)
    np.testing.assert_array_equal(result.bonus_N, bonus)
    np.testing.assert_allclose(result.advantage_N, [half + 0.3, -half, 0.1, 0.2], rtol=1e-15)


def test_bonus_before_normalisation() -> None:
    # group 0: rewards 1, 0 + bonus 1, 0 = 2, 0: N = +-sqrt(1/2), as without the bonus. Group 1: 1 + (2, 0).
    rewards = np.array([1.0, 0.0, 1.0, 1.0])
    bonus = np.array([1.0, 0.0, 2.0, 0.0])
    half = 0.5**0.5
    options = {"placement": "before_normalisation", "eps": 0.0}
    result = combine(rewards, bonus, groups(0, 0, 1, 1), **options)  # type: ignore[arg-type]
    np.testing.assert_allclose(result.advantage_N, [half, -half, half, -half], rtol=1e-15)
    np.testing.assert_allclose(result.normalised_N, [half, -half, 0.0, 0.0], rtol=1e-15)
    np.testing.assert_allclose(result.bonus_N, [0.0, 0.0, half, -half], atol=1e-15)


def test_combine_passes_the_normalisation_options_on() -> None:
    rewards, bonus, one_group = np.array([1.0, 0.0, 0.0, 0.0]), np.zeros(4), groups(0, 0, 0, 0)
    for placement in ("after_normalisation", "before_normalisation"):
        population = combine(rewards, bonus, one_group, placement=placement, std_ddof=0, eps=0.0)
        np.testing.assert_allclose(population.advantage_N[0], 3**0.5, rtol=1e-15)
        centred = combine(rewards, bonus, one_group, placement=placement, divide_by_std=False)
        assert centred.advantage_N[0] == 0.75


def test_unknown_placement_is_refused() -> None:
    with pytest.raises(AssertionError):
        combine(np.zeros(2), np.zeros(2), groups(0, 0), placement="before")  # type: ignore[arg-type]


ROWS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from([0.0, 1.0, 0.1, 0.5, NAN]),
        st.floats(0.0, 1.0),
    ),
    min_size=1,
    max_size=20,
)
PLACEMENTS = st.sampled_from(["after_normalisation", "before_normalisation"])


@settings(max_examples=100, deadline=None, derandomize=True)
@given(ROWS, PLACEMENTS, st.booleans(), st.integers(0, 1))
def test_parts_add_up_and_groups_are_centred_and_order_does_not_matter(
    rows: list[tuple[int, float, float]], placement: str, divide: bool, ddof: int
) -> None:
    labels = np.array([row[0] for row in rows])
    rewards = np.array([row[1] for row in rows])
    bonus = np.where(rewards == 1.0, [row[2] for row in rows], 0.0)
    options = {"placement": placement, "divide_by_std": divide, "std_ddof": ddof}
    result = combine(rewards, bonus, labels, **options)  # type: ignore[arg-type]

    np.testing.assert_array_equal(result.advantage_N, result.normalised_N + result.bonus_N)
    assert np.isfinite(result.advantage_N).all()
    for label in set(labels.tolist()):
        assert abs(result.normalised_N[labels == label].sum()) < 1e-9
    assert (result.normalised_N[np.isnan(rewards)] == 0).all()

    backwards = combine(rewards[::-1], bonus[::-1], labels[::-1], **options)  # type: ignore[arg-type]
    np.testing.assert_allclose(backwards.advantage_N[::-1], result.advantage_N, atol=1e-8)


def test_bonus_share_is_weighted_by_tokens() -> None:
    # |bonus| . T = 0.1*10 + 0.2*30 = 7; |normalised| . T = 1*10 + 0.5*30 = 25; 7 / 32
    share = bonus_share(np.array([0.1, -0.2]), np.array([1.0, -0.5]), np.array([10, 30]))
    assert share == pytest.approx(7 / 32, rel=1e-15)


def test_bonus_share_without_bonus_reward_or_rows() -> None:
    zeros, lengths = np.zeros(2), np.array([5, 7])
    assert bonus_share(zeros, zeros, lengths) == 0.0
    assert bonus_share(zeros, np.ones(2), lengths) == 0.0
    assert bonus_share(np.ones(2), zeros, lengths) == 1.0
    assert bonus_share(zeros[:0], zeros[:0], lengths[:0]) == 0.0


def test_bonus_share_does_not_depend_on_the_sum() -> None:
    # bonus and reward cancel: the sum is 0, the share still 1/2
    assert bonus_share(np.array([1.0]), np.array([-1.0]), np.array([4])) == 0.5


def test_positive_only_changes_continuations_only() -> None:
    advantage = np.array([-1.0, -1.0, 2.0, 2.0])
    continued = np.array([True, False, True, False])
    np.testing.assert_array_equal(positive_only(advantage, continued), [0.0, -1.0, 2.0, 2.0])
