"""Exact sign-flip test of a paired difference over seeds, and Holm's correction for several tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from extra_rl.errors import ContractError

Floats = npt.NDArray[np.float64]

SIGNS = 99_999
"""Sign assignments of a sampled test. Up to that many (16 seeds), all assignments are enumerated; with more seeds,
this many are drawn with seed 0."""
NUMBERS_AT_ONCE = 4_000_000
"""Numbers that a batch of sign assignments may hold, which bounds the memory."""
TIE_DIGITS = 10
"""Means that agree to this many digits of the largest difference are ties: they differ by rounding only."""


def sign_flip_p(differences_TS: npt.NDArray[np.floating]) -> Floats:
    """Return (T,) two-sided p of each row's mean difference, under the hypothesis that the arms are exchangeable.

    p is the share of the 2^n sign assignments of the n differences whose |mean| is at least the observed one. So p is
    at least 2 / 2^n: 0.25 for 3 seeds, 0.0625 for 5, 0.002 for 10. The two arms of a seed share a warm start, which an
    exchange leaves unchanged, so blocks need no treatment. Above 16 seeds signs are sampled:
    p = 2 min over the two sides of (1 + count) / (1 + SIGNS), at most 1.

    Raises ContractError for a table without seeds or with values that are not finite.
    Source: Fisher 1935, The Design of Experiments, 21; computed by scipy.stats.permutation_test.
    """
    differences = np.asarray(differences_TS, dtype=np.float64)
    if differences.ndim != 2 or differences.shape[1] == 0 or not np.isfinite(differences).all():
        raise ContractError(f"a sign-flip test needs rows of finite differences, not {differences.shape}")
    tests, seeds = differences.shape
    if tests == 0 or seeds == 1:  # a single difference is as extreme as its mirror image
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


def least_p(seeds: int) -> float:
    """Return the smallest p that `sign_flip_p` can reach: 2 / 2^n, or 2 / (1 + SIGNS) where signs are sampled."""
    return float(2 / min(2**seeds, SIGNS + 1))


def holm(p_T: npt.NDArray[np.floating]) -> Floats:
    """Return (T,) Holm-adjusted p. Rejecting those below 0.05 bounds the chance of any false rejection by 0.05.

    In ascending order, p~_(i) = max over j <= i of min(1, (T - j + 1) p_(j)). The tests may depend on each other.

    Raises ContractError for a p outside of 0 .. 1.
    Source: Holm 1979, Scand. J. Statist. 6. Own code: scipy 1.17 has only corrections for the false discovery rate, and
    statsmodels is a large dependency for these lines.
    """
    p = np.asarray(p_T, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise ContractError(f"p values lie between 0 and 1, not {p.tolist()}")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


def least_adjusted_p(seeds: int, tests: int) -> float:
    """Return the smallest Holm-adjusted p that `tests` sign-flip tests over `seeds` seeds can reach: min(1, T p_min).

    It is that of Holm's first step. Where it is 0.05 or more, no test can be significant whatever the arms do: run more
    seeds or name fewer tests.
    """
    return min(1.0, tests * least_p(seeds))


def _rounded_mean(values: Floats, axis: int) -> Any:
    return np.round(values.mean(axis=axis), TIE_DIGITS)
