"""The percentile bootstrap interval in its simplest form, the reference for faster implementations."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def percentile_interval(
    values_P: npt.NDArray[np.floating], rng: np.random.Generator, resamples: int
) -> tuple[float, float]:
    """The 95 % interval (low, high) of the mean over problems, drawn with replacement one resample at a time."""
    means = [values_P[rng.integers(len(values_P), size=len(values_P))].mean() for _ in range(resamples)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
