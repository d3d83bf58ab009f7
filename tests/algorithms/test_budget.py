"""The share of hard groups that is served, from hand-computed yields."""

from __future__ import annotations

import pytest

from extra_rl.algorithms.budget import recent, served_groups, served_share


def share(useful: float, fresh: float, rescued: float, guided: float, **changes: float) -> float:
    return served_share(useful, fresh, rescued, guided, **{"start": 0.5, "least": 0.1, "prior": 0.1, **changes})


def test_by_hand() -> None:
    # 1 rescue for 500 tokens, a useful group for 125; the prior adds half of a tenth, and a tenth
    assert share(8, 1000, 1, 500) == pytest.approx((1 / 8 + 0.05) / (0.5 + 0.1))
    assert share(8, 1000, 1, 500, prior=1e-12) == pytest.approx((1 / 500) / (8 / 1000))
    assert share(4, 1000, 2, 2000, start=0.25, prior=0.5) == pytest.approx((0.5 + 0.125) / (2 + 0.5))


def test_it_begins_at_its_start_and_keeps_to_its_limits() -> None:
    assert share(0, 0, 0, 0) == 0.5
    assert share(0, 0, 0, 0, start=0.0) == 0.1
    assert share(8, 1000, 0, 0) == 0.5  # fresh rollouts alone say nothing of continuations
    assert share(8, 1000, 0, 1e6) == 0.1
    assert share(8, 1000, 8, 1000) == pytest.approx(1.05 / 1.1)
    assert share(8, 1000, 9, 1000) == 1.0


def test_where_fresh_rollouts_find_nothing_any_rescue_is_worth_all() -> None:
    assert share(0, 1000, 1, 1e6) == 1.0
    assert share(0, 1000, 0, 400) == pytest.approx(0.05 / 0.5)


def test_more_rescues_serve_more_and_more_tokens_for_them_less() -> None:
    shares = [share(8, 1000, rescued, 900) for rescued in range(8)]
    assert shares == sorted(set(shares))
    assert share(8, 1000, 2, 900) > share(8, 1000, 2, 1000)


def test_older_counts_weigh_less() -> None:
    """4, then 2, then 1: 4 x 9/16 + 2 x 3/4 + 1."""
    total = 0.0
    for count in (4, 2, 1):
        total = recent(total, count)
    assert total == pytest.approx(4.75)


@pytest.mark.parametrize(
    ("hard", "part", "groups"), [(100, 0.07, 7), (10, 0.29, 3), (10, 0.01, 1), (0, 1.0, 0), (7, 1.0, 7)]
)
def test_a_share_of_the_groups_is_rounded_up(hard: int, part: float, groups: int) -> None:
    assert served_groups(hard, part) == groups
