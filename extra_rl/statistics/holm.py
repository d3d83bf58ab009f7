"""Holm's step-down correction for several tests."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from extra_rl.errors import ContractError

Floats = npt.NDArray[np.float64]


def holm(p_T: npt.NDArray[np.floating]) -> Floats:
    """(T,) adjusted p: those below 0.05 stand, and the chance of one false one among all is at most 0.05.

    In ascending order, p~_(i) = max over j <= i of min(1, (T - j + 1) p_(j)). The tests may depend on each other.
    Source: Holm 1979, Scand. J. Statist. 6. Own code: scipy 1.17 has only the corrections of Benjamini and others for
    the false discovery rate, statsmodels is a large dependency for these lines.
    Raises ContractError for a p outside of 0 .. 1.
    """
    p = np.asarray(p_T, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise ContractError(f"p values lie between 0 and 1, not {p.tolist()}")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


def least_adjusted_p(seeds: int, tests: int) -> float:
    """The least Holm p that a sign-flip test over so many seeds can reach among so many tests: min(1, T * 2 / 2^n).

    It is that of the first step. Above 0.05 nothing can stand, whatever the arms do: run more seeds or name fewer
    tests.
    """
    return float(min(1.0, tests * 2.0 / 2**seeds))
