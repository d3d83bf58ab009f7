"""Replay: success estimates, priorities and moves of the cut, by hand."""

from __future__ import annotations

import pytest

from extra_rl.algorithms.replay import Move, next_position, position_of_half, priority, success_estimate
from extra_rl.errors import ConfigError

CUTS = range(1, 4)


def test_the_estimate_is_the_mean_of_a_uniform_posterior() -> None:
    assert success_estimate(0, 0) == 1 / 2
    assert success_estimate(3, 8) == 4 / 10
    assert success_estimate(8, 8) == 9 / 10
    with pytest.raises(ConfigError, match="9 of 8"):
        success_estimate(9, 8)


def test_the_priority_is_the_variance_of_the_reward_per_expected_token() -> None:
    assert priority(0, 0, 8, 10) == pytest.approx(0.25 / 80)
    assert priority(3, 8, 4, 5.5) == pytest.approx(0.4 * 0.6 / (4 * 5.5))
    assert priority(0, 8, 8, 10) == pytest.approx(0.1 * 0.9 / 80)
    assert priority(0, 0, 8, 10) > priority(0, 0, 8, 20) > priority(0, 8, 8, 20)
    assert priority(0, 0, 8, 0) == pytest.approx(0.25 / 8)


@pytest.mark.parametrize(
    ("position", "right", "expected"),
    [
        (3, 6, Move(2, 0)),  # 6 of 8 = .75: one earlier
        (3, 5, Move(3, 0)),
        (2, 2, Move(2, 0)),
        (2, 1, Move(3, 0)),  # 1 of 8 = .125: one later
        (1, 8, Move(None, 0)),  # no earlier cut: done
        (3, 1, Move(3, 1)),  # a failure at the last cut
    ],
)
def test_the_cut_of_a_correct_trajectory_moves_against_the_share_of_correct_continuations(
    position: int, right: int, expected: Move
) -> None:
    assert next_position(position, CUTS, right / 8, harder=-1) == expected


def test_two_failures_in_a_row_at_the_last_cut_finish_a_trajectory() -> None:
    assert next_position(3, CUTS, 0.0, harder=-1, failures=1) == Move(None, 2)
    assert next_position(3, CUTS, 0.0, harder=-1, failures=1, drop_after=3) == Move(3, 2)
    assert next_position(3, CUTS, 0.5, harder=-1, failures=1) == Move(3, 0)


def test_the_cut_of_a_failed_trajectory_moves_the_other_way() -> None:
    assert next_position(2, CUTS, 0.75, harder=1) == Move(3, 0)
    assert next_position(2, CUTS, 0.0, harder=1) == Move(1, 0)
    assert next_position(3, CUTS, 1.0, harder=1) == Move(None, 0)
    assert next_position(1, CUTS, 0.0, harder=1) == Move(1, 1)


def test_with_the_prompt_allowed_the_trajectory_is_finished_one_step_later() -> None:
    assert next_position(1, range(4), 1.0, harder=-1) == Move(0, 0)
    assert next_position(0, range(4), 0.5, harder=-1) == Move(0, 0)
    assert next_position(0, range(4), 0.0, harder=-1) == Move(1, 0)
    assert next_position(0, range(4), 1.0, harder=-1) == Move(None, 0)


def test_other_thresholds_hold() -> None:
    assert next_position(2, CUTS, 0.6, harder=-1, easy_share=0.6) == Move(1, 0)
    assert next_position(2, CUTS, 0.25, harder=-1, hard_share=0.25) == Move(3, 0)


def test_the_cut_of_half_the_successes_takes_every_token_to_succeed_alike() -> None:
    """With 1/4 over 10 tokens: (1/4)^.7 = .379, (1/4)^.4 = .574, (1/4)^.1 = .871 over 7, 4 and 1 tokens."""
    remaining = (10.0, 7.0, 4.0, 1.0)
    assert position_of_half(remaining, CUTS, 1 / 4, 10) == 2
    assert position_of_half(remaining, range(1), 1 / 4, 10) == 0
    assert position_of_half(remaining, CUTS, 1 / 3, 10) == 1  # (1/3)^.7 = .463
    assert position_of_half(remaining, range(2, 4), 1 / 3, 10) == 2
    assert position_of_half(remaining, range(4), 3 / 4, 1) == 2  # (3/4)^4 = .316, (3/4)^1 = .75; .184 is nearer
    assert position_of_half((2.0, 2.0), range(2), 1 / 2, 2) == 0  # equally near: the harder one
