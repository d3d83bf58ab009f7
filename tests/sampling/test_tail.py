"""The share of sampling that the last tenth of the rollouts takes, by hand, with a clock of our own."""

from __future__ import annotations

from pathlib import Path

import pytest

from extra_rl.run.progress import Console
from extra_rl.run.records import TAIL_SHARE
from extra_rl.run.stage import Context, Job
from extra_rl.sampling.tail import TailClock, report_tail


class Hand:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def clock_of(*calls: list[tuple[float, int]], loading: float = 0.0) -> TailClock:
    """A clock that has seen calls of a sampler: (seconds of the call, how many ended then)."""
    hand = Hand()
    clock = TailClock(clock=hand)
    for reports in calls:
        start = hand.now = hand.now + loading
        clock.start()
        for at, count in reports:
            hand.now = start + at
            clock.ended(count)
    return clock


def test_seconds_until_samplers_were_ready_add_up() -> None:
    hand = Hand()
    clock = TailClock(clock=hand)
    for start, end in ((1.0, 3.5), (10.0, 10.25)):
        hand.now = start
        clock.opening()
        hand.now = end
        clock.opened()
    assert clock.opening_seconds == pytest.approx(2.75)


def test_by_hand() -> None:
    assert clock_of([(2.0, 5), (6.0, 4), (10.0, 1)]).share() == pytest.approx((10 - 6) / 10)


def test_what_comes_before_sampling_does_not_count() -> None:
    assert clock_of([(2.0, 5), (6.0, 4), (10.0, 1)], loading=50.0).share() == pytest.approx(0.4)


def test_nine_of_ten_are_enough_and_less_are_not() -> None:
    """19 rollouts: 90 % are 17.1, so the eighteenth ends the first part."""
    assert clock_of([(1.0, 17), (3.0, 1), (4.0, 1)]).share() == pytest.approx(1 / 4)
    assert clock_of([(1.0, 8), (3.0, 1), (4.0, 1)]).share() == pytest.approx(1 / 4)


def test_rollouts_that_end_together_have_no_tail() -> None:
    assert clock_of([(5.0, 3)]).share() == 0.0


def test_reports_of_nothing_change_nothing() -> None:
    assert clock_of([(2.0, 9), (3.0, 0), (4.0, 1), (9.0, 0)]).share() == pytest.approx(2 / 4)


def test_several_calls_add_up() -> None:
    assert clock_of([(8.0, 9), (10.0, 1)], [(29.0, 9), (30.0, 1)], []).share() == pytest.approx(3 / 40)


def test_nothing_ended_or_no_time_passed() -> None:
    assert TailClock().share() is None
    assert clock_of([]).share() is None
    assert clock_of([(0.0, 4)]).share() is None


def test_every_report_is_handed_on() -> None:
    heard: list[int] = []
    clock = TailClock(heard.append)
    clock.start()
    for count in (2, 0, 3):
        clock.ended(count)
    assert heard == [2, 0, 3]


def test_the_share_goes_into_the_record_and_the_log(tmp_path: Path) -> None:
    with Console(tmp_path / "log") as console:
        context = Context(Job("generate", 1, 0, {}), {}, console, {})
        report_tail(TailClock(), context, "rollouts")
        assert TAIL_SHARE not in context.figures
        report_tail(clock_of([(2.0, 5), (6.0, 4), (10.0, 1)]), context, "rollouts")
    assert context.figures[TAIL_SHARE] == pytest.approx(0.4)
    assert (tmp_path / "log").read_text() == "the last 10 % of the rollouts took 40% of the time of sampling\n"
