"""Signals by token of RL-ZVP, and advantages by segment, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from extra_rl.algorithms.token_credit import entropy_signal, segment_advantages
from extra_rl.errors import ContractError, NumericalError

NAN = float("nan")
ENTROPIES = np.array([0.5, 2.0, 0.0, 1.0], np.float32)


def test_entropy_signals_by_hand() -> None:
    # alpha = 0.1. Correct: 0.1 H. Incorrect: -0.1 (2 - H) = -0.15, 0, -0.2, -0.1.
    np.testing.assert_allclose(entropy_signal(ENTROPIES, True, 0.1), [0.05, 0.2, 0.0, 0.1], rtol=1e-12)
    np.testing.assert_allclose(entropy_signal(ENTROPIES, False, 0.1), [-0.15, 0.0, -0.2, -0.1], rtol=1e-12)


def test_tokens_without_loss_have_no_signal_and_no_part_in_the_maximum() -> None:
    # From token 2 on the maximum is 1: -(1 - 0), -(1 - 1).
    np.testing.assert_array_equal(entropy_signal(ENTROPIES, False, 1.0, start=2), [0, 0, -1, 0])
    np.testing.assert_array_equal(entropy_signal(ENTROPIES, True, 1.0, start=3), [0, 0, 0, 1])
    np.testing.assert_array_equal(entropy_signal(ENTROPIES, False, 1.0, start=4), np.zeros(4))
    np.testing.assert_array_equal(entropy_signal(np.zeros(0), True, 1.0), [])


def test_the_sign_is_that_of_correctness_and_a_certain_policy_has_no_signal_when_correct() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        entropies = rng.exponential(size=9)
        assert (entropy_signal(entropies, True, 0.3) >= 0).all()
        assert (entropy_signal(entropies, False, 0.3) <= 0).all()
    assert not entropy_signal(np.zeros(5), True, 0.3).any()


def test_faulty_entropies_and_starts_are_refused() -> None:
    with pytest.raises(NumericalError, match="entropy"):
        entropy_signal(np.array([0.1, NAN]), True, 0.1)
    with pytest.raises(ContractError, match="token 5 of a response of 4"):
        entropy_signal(ENTROPIES, True, 0.1, start=5)


def test_segments_by_hand() -> None:
    """Group 0: fresh 1, 0, 0, 0, so V(prompt) = 1/4. Prefix 7: 1, 1, 0, so V = 2/3; prefix 8: 0, 0, so V = 0.

    Prefix tokens: 2/3 - 1/4 = 5/12 and 0 - 1/4. Sampled tokens of prefix 7: 1 - 1/2 = 1/2 (the others have 1 and 0),
    and 0 - 1 = -1; of prefix 8: 0 - 0 = 0.
    """
    rewards = np.array([1.0, 0, 0, 0, 1, 1, 0, 0, 0])
    prefixes = np.array([-1, -1, -1, -1, 7, 7, 7, 8, 8])
    found = segment_advantages(rewards, np.zeros(9, int), prefixes)
    np.testing.assert_allclose(found.prefix_N, [0] * 4 + [5 / 12] * 3 + [-1 / 4] * 2, rtol=1e-14)
    np.testing.assert_allclose(found.own_N, [0] * 4 + [0.5, 0.5, -1, 0, 0], rtol=1e-14)


def test_a_single_continuation_is_compared_with_the_prompt() -> None:
    # V(prompt) = 1/2; the continuation has 1: both segments 1/2, as under a group's mean.
    found = segment_advantages(np.array([1.0, 0, 1]), np.zeros(3, int), np.array([-1, -1, 3]))
    np.testing.assert_array_equal(found.prefix_N, [0, 0, 0.5])
    np.testing.assert_array_equal(found.own_N, [0, 0, 0.5])


def test_without_a_fresh_rollout_the_prompts_value_is_unknown() -> None:
    # Group 4 has no fresh rollout, group 5 only one that was not judged.
    rewards = np.array([1.0, 0, NAN, 1])
    found = segment_advantages(rewards, np.array([4, 4, 5, 5]), np.array([0, 0, -1, 1]))
    np.testing.assert_array_equal(found.prefix_N, [0, 0, 0, 0])
    np.testing.assert_array_equal(found.own_N, [1, -1, 0, 0])


def test_unjudged_rollouts_count_nowhere() -> None:
    # Fresh: 0 and an unjudged one, V(prompt) = 0. Prefix: 1, unjudged, 0: V = 1/2; 1 - 0 = 1, 0 - 1 = -1.
    rewards = np.array([0, NAN, 1, NAN, 0])
    found = segment_advantages(rewards, np.zeros(5, int), np.array([-1, -1, 2, 2, 2]))
    np.testing.assert_array_equal(found.prefix_N, [0, 0, 0.5, 0, 0.5])
    np.testing.assert_array_equal(found.own_N, [0, 0, 1, 0, -1])


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1.0])
def test_equal_rewards_give_exactly_zero(value: float) -> None:
    found = segment_advantages(np.full(10, value), np.zeros(10, int), np.array([-1] * 3 + [0] * 7))
    assert not found.prefix_N.any()
    assert not found.own_N.any()


def test_groups_with_the_same_prefix_number_in_order_and_out_of_order_agree() -> None:
    rng = np.random.default_rng(3)
    groups = np.repeat([5, 2, 9], 8)
    prefixes = np.where(np.arange(24) % 8 < 3, -1, groups * 2 + (np.arange(24) % 2))
    rewards = rng.integers(0, 2, 24).astype(float)
    order = rng.permutation(24)
    whole = segment_advantages(rewards, groups, prefixes)
    moved = segment_advantages(rewards[order], groups[order], prefixes[order])
    np.testing.assert_allclose(moved.prefix_N, whole.prefix_N[order], atol=1e-14)
    np.testing.assert_allclose(moved.own_N, whole.own_N[order], atol=1e-14)
    alone = groups == 2
    only = segment_advantages(rewards[alone], groups[alone], prefixes[alone])
    np.testing.assert_array_equal(only.own_N, whole.own_N[alone])
