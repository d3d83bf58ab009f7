"""Mean and standard deviation over seeds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from extra_rl.errors import ContractError


def mean_and_sd(values_S: npt.NDArray[np.floating]) -> tuple[float, float | None]:
    """Mean over seeds and their standard deviation (one degree of freedom), in the unit of the values.

    The deviation of one seed is unknown: None. Warm starts are not taken apart here, so it holds their differences too.
    Source: our decision; the usual estimate. Raises ContractError for no seeds.
    """
    if len(values_S) == 0:
        raise ContractError("a mean over seeds needs at least one seed")
    values = np.asarray(values_S, dtype=np.float64)
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else None
