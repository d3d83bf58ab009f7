"""Noise of a gradient that is a sum over groups, relative to the signal (docs/counterfactuals.md).

g_i are the gradients of n groups, normalised so that their sum is the gradient G of the whole batch. The estimates need
only q_i = |g_i|^2, d_i = g_i . G and |G|^2, so no two groups' gradients are in memory at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from extra_research import contracts

Floats = npt.NDArray[np.float64]


class Products(NamedTuple):
    """Products of one batch. names_K: the groups. squared_K: q_i. dot_K: d_i. total: |G|^2."""

    names_K: list[str]
    squared_K: Floats
    dot_K: Floats
    total: float


class Noise(NamedTuple):
    """mean_squared_norm: s2; squared_norm_of_mean: m2; trace and squared_mean: None for fewer than two groups."""

    mean_squared_norm: float
    squared_norm_of_mean: float
    trace: float | None
    squared_mean: float | None

    @property
    def ratio(self) -> float | None:
        """trace / squared_mean; None where the squared mean is not above 0."""
        if self.trace is None or self.squared_mean is None or self.squared_mean <= 0:
            return None
        return self.trace / self.squared_mean


class Interval(NamedTuple):
    low: float | None
    high: float | None


def noise_of(squared: float, total: float, groups: int) -> Noise:
    """Return the estimates from the sum of q_i, |G|^2 and n.

    With s2 = mean q_i and m2 = |G / n|^2: trace of the covariance of g_i = n / (n - 1) (s2 - m2), squared mean
    |E g|^2 = m2 - trace / n, both unbiased where groups are drawn independently. Their ratio is a quotient and so not
    unbiased, and free of the unit of g. It is the "simple noise scale" of arXiv 1812.06162 with a group as the unit:
    the number of groups at which the noise of a batch's gradient is as large as the gradient.
    """
    s2, m2 = squared / groups, total / groups**2
    if groups < 2:
        return Noise(s2, m2, None, None)
    trace = groups / (groups - 1) * (s2 - m2)
    return Noise(s2, m2, trace, m2 - trace / groups)


def noise(batches: Sequence[Products], left_out: str = "") -> Noise:
    """Return the estimates of one batch, or their means over several (a policy each); batches of one group are skipped.

    left_out: a group that is removed from every batch that contains it. The mean over batches comes before the
    quotient, because a single batch's squared mean may well be estimated below 0.
    """
    found = [noise_of(*sums) for batch in batches if (sums := sums_of(batch, left_out))[2] > 1]
    if not found:
        return noise_of(*sums_of(batches[0], left_out))
    return Noise(*(float(np.mean(column)) for column in zip(*found, strict=True)))


def sums_of(batch: Products, left_out: str) -> tuple[float, float, int]:
    """Return sum of q_i, |G|^2 and n without a group: |G - g_i|^2 = |G|^2 - 2 d_i + q_i."""
    squared, total, groups = float(batch.squared_K.sum()), batch.total, len(batch.names_K)
    if left_out in batch.names_K:
        i = batch.names_K.index(left_out)
        squared -= float(batch.squared_K[i])
        total += float(batch.squared_K[i]) - 2 * float(batch.dot_K[i])
        groups -= 1
    return squared, total, groups


def interval(batches: Sequence[Products], reference: Sequence[Products] = ()) -> Interval:
    """Return the 95 % jackknife interval of the noise ratio, or of its quotient with that of `reference`.

    One group at a time is left out of every batch that it is in, and x_i is the logarithm of what remains: exp(log
    ratio +- t se), se^2 = sum over batches of (n - 1) / n sum (x_i - mean of the batch's x)^2, t the quantile of N - 1
    degrees of freedom, N groups in all. No interval where leaving some group out leaves no ratio: then a single group
    decides whether there is a signal at all. Source: jackknife, Efron and Stein 1981, stratified by batch; the
    logarithm, because a ratio is positive and skewed, is our decision.
    """
    from scipy.stats import t

    whole = log_ratio(batches, reference, "")
    strata = [[log_ratio(batches, reference, name) for name in names] for names in strata_of([*batches, *reference])]
    values = [value for stratum in strata for value in stratum]
    if whole is None or None in values or len(values) < 3:
        return Interval(None, None)
    spread = sum(np.var(np.array(x, np.float64)) * (len(x) - 1) for x in strata if x)
    reach = float(t.ppf(0.975, len(values) - 1)) * math.sqrt(spread)
    return Interval(math.exp(whole - reach), math.exp(whole + reach))


def strata_of(batches: Iterable[Products]) -> list[list[str]]:
    """Return the groups of each batch that are in no earlier batch."""
    seen: set[str] = set()
    found = []
    for batch in batches:
        found.append([name for name in batch.names_K if name not in seen])
        seen |= set(batch.names_K)
    return found


def log_ratio(batches: Sequence[Products], reference: Sequence[Products], left_out: str) -> float | None:
    """Return the logarithm of the noise ratio without a group, minus that of `reference`; None: a ratio is missing."""
    ratios = [noise(found, left_out).ratio for found in (batches, reference) if found]
    if any(ratio is None or ratio <= 0 for ratio in ratios):
        return None
    own, other = (*ratios, 1.0)[:2]
    assert own is not None
    assert other is not None
    return math.log(own) - math.log(other)


def noise_table(variants: Mapping[str, Sequence[Products]]) -> pl.DataFrame:
    """Return `GradientNoise` from variant -> batches, one an iteration; `relative` compares with the first variant."""
    first = next(iter(variants.values()))
    rows = []
    for name, batches in variants.items():
        found, own, relative = noise(batches), interval(batches), interval(batches, first)
        base = noise(first).ratio
        rows.append(
            {
                "variant": name,
                "iterations": len(batches),
                "groups": sum(len(batch.names_K) for batch in batches),
                "signal_groups": sum(int((batch.squared_K > 0).sum()) for batch in batches),
                "gradient_norm": math.sqrt(np.mean([batch.total for batch in batches])),
                **found._asdict(),
                "noise_ratio": found.ratio,
                **own._asdict(),
                "relative": found.ratio / base if found.ratio is not None and base else None,
                "relative_low": relative.low,
                "relative_high": relative.high,
            }
        )
    return pl.DataFrame(rows, schema=contracts.GradientNoise.create_empty().schema, strict=False)
