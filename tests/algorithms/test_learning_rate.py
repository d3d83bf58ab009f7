"""The decay of the learning rate, computed by hand."""

from __future__ import annotations

import itertools
import math

import pytest

from extra_rl.algorithms.learning_rate import decayed_share


def test_linear_by_hand() -> None:
    assert [decayed_share(i, "linear", 4, 0.2) for i in range(7)] == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2, 0.2, 0.2])


def test_cosine_by_hand() -> None:
    quarter = (1 + math.sqrt(0.5)) / 2  # cos(pi / 4)
    expected = [1.0, quarter, 0.5, 1 - quarter, 0.0, 0.0]
    assert [decayed_share(i, "cosine", 4, 0.0) for i in range(6)] == pytest.approx(expected)
    raised = [0.1 + 0.9 * share for share in expected]
    assert [decayed_share(i, "cosine", 4, 0.1) for i in range(6)] == pytest.approx(raised)


@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_it_begins_at_the_peak_falls_and_then_stays(shape: str) -> None:
    shares = [decayed_share(i, shape, 40, 0.05) for i in range(60)]  # type: ignore[arg-type]
    assert shares[0] == 1.0
    assert all(after < before for before, after in itertools.pairwise(shares[:41]))
    assert set(shares[40:]) == {0.05}
