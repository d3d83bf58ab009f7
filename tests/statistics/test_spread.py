"""Mean and sd over seeds, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from extra_rl.errors import ContractError
from extra_rl.statistics.spread import mean_and_sd


def test_the_deviation_has_one_degree_of_freedom() -> None:
    # mean 5; squares 9 + 1 + 1 + 9 = 20; 20 / 3
    assert mean_and_sd(np.array([2.0, 4.0, 6.0, 8.0])) == pytest.approx((5.0, (20 / 3) ** 0.5))


def test_one_seed_has_no_deviation_and_none_no_mean() -> None:
    assert mean_and_sd(np.array([3.5])) == (3.5, None)
    with pytest.raises(ContractError, match="at least one seed"):
        mean_and_sd(np.array([]))
