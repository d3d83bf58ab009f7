"""Mean, standard deviation and 95 % intervals of a paired difference over seeds, blocked by warm start."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from extra_rl.errors import ConfigError, ContractError

Floats = npt.NDArray[np.float64]


def mean_and_sd(values_S: npt.NDArray[np.floating]) -> tuple[float, float | None]:
    """Return the mean over seeds and the sample standard deviation (ddof 1), in the unit of the values.

    The standard deviation of one seed is None. It includes differences between warm starts.
    Raises ContractError for no seeds. Source: our decision; the usual estimate.
    """
    if len(values_S) == 0:
        raise ContractError("a mean over seeds needs at least one seed")
    values = np.asarray(values_S, dtype=np.float64)
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else None


def degrees_of_freedom(blocks_S: Sequence[Hashable]) -> int:
    """Return seeds minus blocks, the degrees of freedom of the noise estimate. 0: every block has a single seed."""
    return len(blocks_S) - len(set(blocks_S))


def blocked_t_interval(
    differences_S: npt.NDArray[np.floating], blocks_S: Sequence[Hashable], level: float = 0.95
) -> tuple[float, float] | None:
    """Return the interval (low, high) of the mean difference over seeds; None where no block has two seeds.

        estimate  m = (1/n) sum_s d_s                                every seed has the same weight
        variance  v = sum_b sum_(s in b) (d_s - mean_b)^2 / (n - B)  pooled within the B blocks
        interval  m -+ t((1 + level) / 2; n - B) * sqrt(v / n)

    One block gives the ordinary paired t interval. Blocks are fixed effects: the interval covers these warm starts, not
    others. It assumes approximately normal noise with equal variance in every block.

    Args:
        differences_S: arm - base of each seed, both from the same warm start.
        blocks_S: the warm start of each seed.
        level: confidence level.

    Raises ConfigError unless 0 < level < 1, ContractError for no seeds, values that are not finite, or lengths that
    differ.
    Source: two-way layout without interaction of seeds (Box, Hunter and Hunter, Statistics for Experimenters);
    fixed blocks are our decision.
    """
    _check_level(level)
    differences = np.asarray(differences_S, dtype=np.float64)
    if len(differences) == 0 or len(differences) != len(blocks_S) or not np.isfinite(differences).all():
        raise ContractError(
            f"{len(differences)} differences and {len(blocks_S)} blocks: each difference must be finite and have one "
            "block"
        )
    free = degrees_of_freedom(blocks_S)
    if free == 0:
        return None
    from scipy.stats import t

    labels = np.unique([str(block) for block in blocks_S], return_inverse=True)[1]
    mean_of_block = np.bincount(labels, differences) / np.bincount(labels)
    variance = ((differences - mean_of_block[labels]) ** 2).sum() / free
    half = float(t.ppf((1 + level) / 2, free) * np.sqrt(variance / len(differences)))
    estimate = float(differences.mean())
    return estimate - half, estimate + half


def drawn_seeds(blocks_S: Sequence[Hashable], rng: np.random.Generator, resamples: int) -> npt.NDArray[np.int64]:
    """Return (R, S) indices of the seeds of each resample. Each block's places are filled from its own seeds.

    Raises ConfigError unless resamples >= 1, ContractError for no seeds.
    """
    if resamples < 1 or len(blocks_S) == 0:
        error = ConfigError if resamples < 1 else ContractError
        raise error(f"a bootstrap needs seeds and resamples, not {len(blocks_S)} and {resamples}")
    drawn = np.empty((resamples, len(blocks_S)), dtype=np.int64)
    for block in dict.fromkeys(blocks_S):
        places = np.array([place for place, own in enumerate(blocks_S) if own == block])
        drawn[:, places] = places[rng.integers(len(places), size=(resamples, len(places)))]
    return drawn


def two_level_interval(
    arm_BRS: npt.NDArray[np.floating],
    base_BRS: npt.NDArray[np.floating],
    drawn_RS: npt.NDArray[np.integer],
    level: float = 0.95,
) -> tuple[float, float]:
    """Return the bootstrap percentile interval (low, high) of arm - base, mean over seeds, then over benchmarks.

    With few seeds it is too narrow: n seeds of a block, drawn with replacement, have (n - 1) / n of the variance.

    Args:
        arm_BRS: mean over the problems of resample r for each benchmark and seed, from
            `extra_rl.algorithms.pass_at_k.bootstrap_means`. Problems are crossed with seeds: every policy was evaluated
            on the same ones, so a resample has the same problems for both arms and all seeds.
        base_BRS: the same for the base arm, with the same draws.
        drawn_RS: `drawn_seeds`; a resample has the same seeds on every benchmark.
        level: confidence level.

    Raises ConfigError unless 0 < level < 1, ContractError for shapes that disagree.
    Source: bootstrap of crossed factors (Owen 2007, The pigeonhole bootstrap); percentile interval,
    Efron and Tibshirani 1993.
    """
    _check_level(level)
    if arm_BRS.shape != base_BRS.shape or arm_BRS.shape[1:] != drawn_RS.shape or arm_BRS.size == 0:
        raise ContractError(f"shapes disagree: {arm_BRS.shape}, {base_BRS.shape}, seeds {drawn_RS.shape}")
    differences_BRS = arm_BRS - base_BRS
    taken_BRS = np.take_along_axis(differences_BRS, np.broadcast_to(drawn_RS, differences_BRS.shape), axis=2)
    means_R = taken_BRS.mean(axis=2).mean(axis=0)
    # Samples that could not be judged leave problems out; a resample that holds only such problems has no mean.
    low, high = np.nanquantile(means_R, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ConfigError(f"an interval needs 0 < level < 1, not {level}")
