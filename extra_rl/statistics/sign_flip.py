"""Exact sign-flip test of a paired difference over seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from extra_rl.errors import ContractError

Floats = npt.NDArray[np.float64]

SIGNS = 99_999
"""Up to so many ways all are tried, that is up to 16 seeds; with more seeds so many are drawn, with the seed 0."""
NUMBERS_AT_ONCE = 4_000_000
TIE_DIGITS = 10
"""Means that agree to so many digits of the largest difference are ties: they differ by rounding only."""


def sign_flip_p(differences_TS: npt.NDArray[np.floating]) -> Floats:
    """(T,) two-sided p of each row's mean difference, under the hypothesis that the two arms could be exchanged.

    p = share of the 2^n ways to give the n differences signs whose |mean| is at least the observed one. So p is never
    below 2 / 2^n: 0.25 for 3 seeds, 0.0625 for 5, 0.002 for 10. A warm start, which the two arms of a seed share, does
    not matter to the exchange, so blocks need no treatment. Above 16 seeds signs are sampled:
    p = 2 min over the two sides of (1 + count) / (1 + SIGNS), at most 1.
    Source: Fisher 1935, The Design of Experiments, 21; computed by scipy.stats.permutation_test.
    Raises ContractError for a table without seeds or with values that are not finite.
    """
    differences = np.asarray(differences_TS, dtype=np.float64)
    if differences.ndim != 2 or differences.shape[1] == 0 or not np.isfinite(differences).all():
        raise ContractError(f"a sign-flip test needs rows of finite differences, not {differences.shape}")
    tests, seeds = differences.shape
    if tests == 0 or seeds == 1:  # one seed and its mirror image: nothing could be more extreme
        return np.ones(tests)
    from scipy.stats import permutation_test

    largest = np.abs(differences).max(axis=1, keepdims=True)
    result = permutation_test(
        (differences / np.where(largest > 0, largest, 1.0),),
        _rounded_mean,
        permutation_type="samples",
        alternative="two-sided",
        vectorized=True,
        axis=-1,
        n_resamples=SIGNS,
        batch=max(1, NUMBERS_AT_ONCE // differences.size),
        rng=np.random.default_rng(0),
    )
    return np.asarray(result.pvalue, dtype=np.float64)


def _rounded_mean(values: Floats, axis: int) -> Any:
    return np.round(values.mean(axis=axis), TIE_DIGITS)
