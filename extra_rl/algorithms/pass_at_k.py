"""pass@k: the probability that at least one of k samples is correct, and its interval (docs/method.md, section 6).

Axes: P problems, R bootstrap resamples, M figures. Source: Chen et al. 2021, arXiv 2107.03374.
"""

from __future__ import annotations

from math import comb

import numpy as np
import numpy.typing as npt

from extra_rl.errors import ConfigError, ContractError

Floats = npt.NDArray[np.float64]


def pass_at_k(n: int, c: int, k: int) -> float:
    """1 - C(n - c, k) / C(n, k): the unbiased estimate from n samples of one problem, c of them correct.

    Computed in integers with one division at the end, so the result is the nearest float for any n. (1 - (1 - c/n)^k
    would be biased, and factorials in floating point overflow at n = 171.)
    Raises ConfigError unless 1 <= k <= n, ContractError unless 0 <= c <= n.
    """
    if k < 1 or k > n:
        raise ConfigError(f"pass@{k} needs 1 <= k <= samples, but a problem has {n} samples; lower k or sample more")
    if not 0 <= c <= n:
        raise ContractError(f"{c} correct samples of {n}: the count must be between 0 and {n}")
    subsets = comb(n, k)
    return (subsets - comb(n - c, k)) / subsets


def pass_at_k_each(n_P: npt.NDArray[np.integer], c_P: npt.NDArray[np.integer], k: int) -> Floats:
    """`pass_at_k` of every problem, (P,), for intervals and paired comparisons; problems may differ in n."""
    return np.array([pass_at_k(int(n), int(c), k) for n, c in zip(n_P, c_P, strict=True)], dtype=np.float64)


def pass_at_each_k(n_P: npt.NDArray[np.integer], c_P: npt.NDArray[np.integer], k_max: int) -> Floats:
    """`pass_at_k` of every problem for k = 1 .. k_max, (P, k_max); NaN where a problem has fewer than k samples."""
    # Many problems have the same counts (n, c): each pair is computed once.
    row_of = {pair: row for row, pair in enumerate(sorted(set(zip(n_P.tolist(), c_P.tolist(), strict=True))))}
    table = np.full((len(row_of), k_max), np.nan)
    for (n, c), row in row_of.items():
        table[row, : min(n, k_max)] = [pass_at_k(n, c, k) for k in range(1, min(n, k_max) + 1)]
    return table[[row_of[pair] for pair in zip(n_P.tolist(), c_P.tolist(), strict=True)]]


def bootstrap_means(values_PM: npt.NDArray[np.floating], rng: np.random.Generator, resamples: int = 2000) -> Floats:
    """Means of M figures over problems drawn with replacement, (R, M); all figures share the same draws.

    values_PM: NaN marks a problem that a figure does not count; the mean is over the others, and NaN where a draw has
    none. For intervals take quantiles along axis 0; to combine benchmarks, average their arrays first. The intervals
    contain the uncertainty from the choice of problems only, not from training seeds.
    Raises ConfigError unless resamples >= 1, ContractError without problems.
    Source: percentile bootstrap, Efron and Tibshirani 1993; our decision (O).
    """
    if resamples < 1 or len(values_PM) == 0:
        error = ConfigError if resamples < 1 else ContractError
        raise error(f"an interval needs problems and resamples, not {len(values_PM)} and {resamples}")
    counted_PM = np.isfinite(values_PM)
    problems = len(values_PM)
    # One bincount over all resamples: the offset resamples * P gives each resample its own range of numbers.
    drawn_RP = rng.integers(problems, size=(resamples, problems)) + problems * np.arange(resamples)[:, None]
    times_RP = np.bincount(drawn_RP.ravel(), minlength=resamples * problems).reshape(resamples, problems).astype(float)
    # einsum instead of @: the last bits of BLAS sums may depend on its number of threads.
    sum_RM = np.einsum("rp,pm->rm", times_RP, np.where(counted_PM, values_PM, 0.0))
    with np.errstate(invalid="ignore"):
        return np.asarray(sum_RM / np.einsum("rp,pm->rm", times_RP, counted_PM.astype(float)))
