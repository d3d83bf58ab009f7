"""MaxRL's advantage and that of pass@k training, against numbers worked out by hand and against enumeration."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from extra_rl.algorithms.advantage import combine, normalise_groups
from extra_rl.algorithms.rare_success import balanced_subset, mean_normalised, pass_at_k_normalised
from extra_rl.errors import ConfigError, NumericalError

NAN = float("nan")


def group(*rewards: float) -> tuple[np.ndarray, np.ndarray]:
    return np.array(rewards), np.zeros(len(rewards), int)


def test_one_correct_of_eight_has_seven() -> None:
    # m = 1/8: (1 - 1/8) / (1/8) = 7, (0 - 1/8) / (1/8) = -1. GRPO: sd = sqrt((49 + 7) / 64 / 7) = sqrt(1/8), 2.47.
    rewards, labels = group(1, 0, 0, 0, 0, 0, 0, 0)
    np.testing.assert_array_equal(mean_normalised(rewards, labels), [7, *[-1] * 7])
    np.testing.assert_allclose(normalise_groups(rewards, labels)[0], 0.875 / 0.125**0.5, rtol=1e-5)


def test_partial_credit_excluded_rows_and_several_groups() -> None:
    # Group 3: 1, 0.5, 0 (and a row that was not judged): m = 1/2, so 1, 0, -1. Group 9: 1, 1, 0: m = 2/3, so 1/2, -1.
    rewards = np.array([1, 1, 0.5, NAN, 1, 0, 0])
    labels = np.array([3, 9, 3, 3, 9, 3, 9])
    np.testing.assert_allclose(mean_normalised(rewards, labels), [1, 0.5, 0, 0, 0.5, -1, -1], rtol=1e-15)


@pytest.mark.parametrize("value", [0.0, 0.1, 1.0])
def test_equal_rewards_and_single_rows_have_no_signal(value: float) -> None:
    np.testing.assert_array_equal(mean_normalised(*group(value, value, value)), [0, 0, 0])
    np.testing.assert_array_equal(mean_normalised(*group(value, NAN)), [0, 0])
    np.testing.assert_array_equal(mean_normalised(*group()), [])


def test_negative_rewards_are_refused_by_the_mean() -> None:
    with pytest.raises(NumericalError, match=r"normalise: mean .* negative in 1 rows, the first of them \[1\]"):
        mean_normalised(*group(1, -0.5))


def test_pass_at_two_of_two_correct_among_four_by_hand() -> None:
    # C(4, 2) = 6 pairs, of which one has no correct rollout: R = 5/6, s = sqrt(5)/6.
    # Correct: (1/6) / s = 1/sqrt(5). Incorrect: of the 3 pairs with it one fails: (1/6 - 1/3) / s = -1/sqrt(5).
    advantage = pass_at_k_normalised(*group(1, 0, 1, 0), k=2)
    np.testing.assert_allclose(advantage, np.array([1, -1, 1, -1]) / 5**0.5, rtol=1e-14)


def test_a_rare_success_has_more_weight_under_pass_at_k() -> None:
    # One of eight, k = 4: R = 1 - C(7,4)/C(8,4) = 1 - 35/70 = 1/2, s = 1/2: correct (1/2)/s = 1.
    # Incorrect: C(6,3)/C(7,3) = 20/35 = 4/7: (1/2 - 4/7)/s = -1/7. Seven of them: the sum is 0.
    advantage = pass_at_k_normalised(*group(1, *[0] * 7), k=4)
    np.testing.assert_allclose(advantage, [1, *[-1 / 7] * 7], rtol=1e-14)
    # Four of eight have the ratio of correct to all, 1 : 1, but hardly any signal: (1 - R) = 1/70.
    common = pass_at_k_normalised(*group(*[1] * 4, *[0] * 4), k=4)
    np.testing.assert_allclose(common[0], (1 / 70) / (69 / 70**2) ** 0.5, rtol=1e-12)
    assert common[0] < 0.13


def test_for_k_of_one_it_is_grpo_with_the_population_deviation() -> None:
    rewards, labels = np.array([1.0, 0, 0, 1, 0, 0, 0]), np.array([0, 0, 0, 1, 1, 1, 1])
    expected = normalise_groups(rewards, labels, std_ddof=0, eps=0.0)
    np.testing.assert_allclose(pass_at_k_normalised(rewards, labels, 1), expected, rtol=1e-14)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_it_is_the_mean_over_the_subsets_that_contain_a_rollout(k: int) -> None:
    """The definition, enumerated: every subset of k rollouts has the reward of its best, normalised over subsets."""
    for c in range(6):
        rewards, labels = group(*[1.0] * c, *[0.0] * (5 - c))
        subsets = list(combinations(range(5), k))
        best = np.array([rewards[list(subset)].max() for subset in subsets])
        spread = best.std()
        scores = (best - best.mean()) / spread if spread else np.zeros_like(best)
        expected = [np.mean([s for s, subset in zip(scores, subsets, strict=True) if i in subset]) for i in range(5)]
        np.testing.assert_allclose(pass_at_k_normalised(rewards, labels, k), expected, atol=1e-12)


def test_groups_too_small_for_k_and_unjudged_rows_have_none() -> None:
    # The group has 3 judged rollouts, so pass@4 is not defined for it, and pass@3 is 1.
    rewards, labels = group(1, 0, 0, NAN)
    for k in (3, 4):
        np.testing.assert_array_equal(pass_at_k_normalised(rewards, labels, k), np.zeros(4))
    # k = 2, 1 of 3: R = 1 - 1/3 = 2/3, s = sqrt(2)/3: 1/sqrt(2), and (1/3 - 1/2) / s = -1/(2 sqrt(2)).
    expected = [0.5**0.5, -(0.5**0.5) / 2, -(0.5**0.5) / 2, 0]
    np.testing.assert_allclose(pass_at_k_normalised(rewards, labels, 2), expected, rtol=1e-14)


def test_partial_credit_is_refused_by_pass_at_k() -> None:
    with pytest.raises(ConfigError, match=r"every reward must be 0 or 1, but 1 rollouts have others, such as 0.3"):
        pass_at_k_normalised(*group(1, 0.3, 0), k=2)


def test_combine_adds_the_bonus_before_or_after() -> None:
    rewards, labels = group(1, 0, 0, 0)
    bonus = np.array([0.2, 0, 0, 0])
    after = combine(rewards, bonus, labels, normalise="mean")
    np.testing.assert_allclose(after.advantage_N, [3.2, -1, -1, -1], rtol=1e-15)
    # Rewards 1.2, 0, 0, 0: m = 0.3; (1.2 - 0.3) / 0.3 = 3: MaxRL does not see the size of a single reward.
    before = combine(rewards, bonus, labels, normalise="mean", placement="before_normalisation")
    np.testing.assert_allclose(before.advantage_N, [3, -1, -1, -1], rtol=1e-14)
    passed = combine(rewards, bonus, labels, normalise="pass_at_k", k=2)
    # R = 1 - C(3,2)/C(4,2) = 1/2, s = 1/2: 1 and (1/2 - 2/3)/s = -1/3.
    np.testing.assert_allclose(passed.advantage_N, [1.2, -1 / 3, -1 / 3, -1 / 3], rtol=1e-14)


def test_the_named_forms_are_those_of_divide_by_std() -> None:
    rewards, labels = group(1, 0, 0, 1, 0)
    bonus = np.array([0.1, 0, 0, 0.3, 0])
    for placement in ("after_normalisation", "before_normalisation"):
        for name, divides in (("std", True), ("mean_only", False)):
            named = combine(rewards, bonus, labels, placement=placement, normalise=name)
            given = combine(rewards, bonus, labels, placement=placement, divide_by_std=divides)
            np.testing.assert_array_equal(named.advantage_N, given.advantage_N)


def test_a_balanced_subset_is_filled_up_with_the_other_kind() -> None:
    # Group 0: w r w w w r: of four rows two correct, and the first two incorrect. Group 1: one correct of five: it and
    # three incorrect ones. Group 2 has three rows: all. Group 3: all correct; its second row is not counted.
    letters = {0: "wrwwwr", 1: "wwwrw", 2: "rrw", 3: "rrrrrr"}
    labels = np.array([label for label, of in letters.items() for _ in of])
    correct = np.array([letter == "r" for of in letters.values() for letter in of])
    counted = np.ones(len(labels), bool)
    counted[-5] = False
    kept = balanced_subset(correct, counted, labels, 4).astype(int).tolist()
    assert kept == [1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 0, 1, 1, 1, 0]
    # Of five rows two are correct and three incorrect.
    assert balanced_subset(correct, counted, labels, 5)[:6].astype(int).tolist() == [1, 1, 1, 1, 0, 1]
