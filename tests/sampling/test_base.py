"""The order in which requests are taken, and when a call is over."""

from __future__ import annotations

import pytest

from extra_rl.sampling.base import Limits, Request, decoding_order


def test_the_context_decides_by_default_whatever_is_expected() -> None:
    asked = [Request((3, 1), 9, 0, 9), Request((2,), 9, 1, 1), Request((3, 1), 9, 2, 5), Request((1, 1), 9, 3)]
    assert decoding_order(asked) == [1, 3, 0, 2]


def test_the_longest_come_first_the_unknown_count_as_long_as_may_be() -> None:
    asked = [
        Request((1,), 20, 0, expected=5),
        Request((1,), 20, 1, expected=12),
        Request((2,), 20, 2),  # unknown: 20
        Request((1,), 8, 3),  # unknown: 8
        Request((2,), 10, 4, expected=99),  # not more than 10
        Request((1,), 20, 5, expected=12),
        Request((0,), 20, 6, expected=12),  # as long, and its context comes before
    ]
    assert decoding_order(asked, "longest_first") == [2, 6, 1, 5, 4, 3, 0]


@pytest.mark.parametrize(
    ("limits", "over"),
    [
        (Limits(), False),
        (Limits(ended=8), False),
        (Limits(ended=7), True),
        (Limits(tokens=101), False),
        (Limits(tokens=100), True),
        (Limits(ended=8, tokens=100), True),
        (Limits(ended=7, tokens=101), True),
    ],
)
def test_a_call_is_over_at_either_limit(limits: Limits, over: bool) -> None:
    assert limits.reached(ended=7, tokens=100) is over


def test_a_part_of_a_call_has_its_part_of_the_limits_rounded_up() -> None:
    assert Limits(ended=10, tokens=100).part(3, of=8) == Limits(ended=4, tokens=38)  # 3.75 and 37.5
    assert Limits(tokens=7).part(8, of=8) == Limits(tokens=7)
    assert Limits().part(1, of=8) == Limits()
