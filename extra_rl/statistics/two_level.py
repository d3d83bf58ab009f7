"""Two-level bootstrap of a difference: seeds within their warm start, and problems."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from extra_rl.errors import ConfigError, ContractError

Floats = npt.NDArray[np.float64]


def drawn_seeds(blocks_S: Sequence[Hashable], rng: np.random.Generator, resamples: int) -> npt.NDArray[np.int64]:
    """(R, S): which seeds a resample holds, as indices. Each block's places are filled from its own seeds.

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
    """Percentile interval (low, high) of arm - base, mean over seeds, then over benchmarks.

    arm_BRS, base_BRS: the mean over the problems of resample r, of each benchmark and seed. They come from
    `extra_rl.algorithms.pass_at_k.bootstrap_means` on the same draws: problems are crossed with seeds, every policy
    was asked the same ones, so a resample's problems are the same for both arms and all seeds. drawn_RS: `drawn_seeds`;
    a resample takes the same seeds on every benchmark.

    With few seeds it is too narrow: n seeds of a block, drawn with replacement, have (n - 1) / n of the variance.
    Source: bootstrap of crossed factors (Owen 2007, The pigeonhole bootstrap); percentile interval,
    Efron and Tibshirani 1993.
    Raises ConfigError unless 0 < level < 1, ContractError for shapes that disagree.
    """
    if not 0 < level < 1:
        raise ConfigError(f"an interval needs 0 < level < 1, not {level}")
    if arm_BRS.shape != base_BRS.shape or arm_BRS.shape[1:] != drawn_RS.shape or arm_BRS.size == 0:
        raise ContractError(f"shapes disagree: {arm_BRS.shape}, {base_BRS.shape}, seeds {drawn_RS.shape}")
    differences_BRS = arm_BRS - base_BRS
    taken_BRS = np.take_along_axis(differences_BRS, np.broadcast_to(drawn_RS, differences_BRS.shape), axis=2)
    means_R = taken_BRS.mean(axis=2).mean(axis=0)
    # A draw in which some figure counts no problem has no mean (samples that could not be judged): it is left out.
    low, high = np.nanquantile(means_R, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
