"""Holm's correction: by hand, and as statsmodels has it."""

from __future__ import annotations

import numpy as np
import pytest

from extra_rl.errors import ContractError
from extra_rl.statistics.holm import holm, least_adjusted_p


def test_by_hand() -> None:
    # in order 0.01, 0.02, 0.04: 3 * 0.01, 2 * 0.02, 1 * 0.04
    assert holm(np.array([0.04, 0.01, 0.02])) == pytest.approx([0.04, 0.03, 0.04])
    # a later p is never below an earlier one: 3 * 0.02 = 0.06, 2 * 0.021 = 0.042 -> 0.06; and none is above 1
    assert holm(np.array([0.02, 0.021, 0.9])) == pytest.approx([0.06, 0.06, 0.9])
    assert holm(np.array([0.6, 0.7])) == pytest.approx([1.0, 1.0])


def test_as_in_statsmodels() -> None:
    # statsmodels 0.15.0: multipletests([...], method="holm")[1]
    found = holm(np.array([0.01, 0.04, 0.03, 0.005, 0.2, 0.03]))
    assert found == pytest.approx([0.05, 0.12, 0.12, 0.03, 0.2, 0.12], abs=1e-12)


def test_one_test_needs_no_correction_and_none_is_fine() -> None:
    assert holm(np.array([0.03])) == pytest.approx([0.03])
    assert holm(np.array([])).shape == (0,)


@pytest.mark.parametrize("p", [-0.1, 1.1, np.nan])
def test_what_is_no_p_is_refused(p: float) -> None:
    with pytest.raises(ContractError, match="between 0 and 1"):
        holm(np.array([0.5, p]))


def test_the_least_p_that_can_be_reached() -> None:
    assert least_adjusted_p(seeds=5, tests=1) == 0.0625
    assert least_adjusted_p(seeds=10, tests=25) == pytest.approx(0.0488, abs=1e-4)
    assert least_adjusted_p(seeds=10, tests=26) > 0.05
    assert least_adjusted_p(seeds=3, tests=8) == 1.0
