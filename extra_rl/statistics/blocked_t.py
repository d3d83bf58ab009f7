"""Paired difference of two arms over seeds, blocked by warm start."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from extra_rl.errors import ConfigError, ContractError


def degrees_of_freedom(blocks_S: Sequence[Hashable]) -> int:
    """Seeds less blocks: what is left to estimate the noise with. 0: a single seed in every block."""
    return len(blocks_S) - len(set(blocks_S))


def blocked_t_interval(
    differences_S: npt.NDArray[np.floating], blocks_S: Sequence[Hashable], level: float = 0.95
) -> tuple[float, float] | None:
    """Interval (low, high) of the mean difference over seeds; None where no block has two seeds.

        estimate  m = (1/n) sum_s d_s                                every seed weighs the same
        variance  v = sum_b sum_(s in b) (d_s - mean_b)^2 / (n - B)  pooled within the B blocks
        interval  m -+ t((1 + level) / 2; n - B) * sqrt(v / n)

    differences_S: arm - base of each seed, both from the same warm start. blocks_S: which warm start that was. One
    block is the ordinary paired t interval. Blocks are fixed: what differs between warm starts is no noise here, and
    the interval speaks of these warm starts, not of others. It needs about normal noise, equal in every block.
    Source: two-way layout without interaction of seeds (Box, Hunter and Hunter, Statistics for Experimenters);
    that blocks are fixed is our decision.
    Raises ConfigError unless 0 < level < 1, ContractError for no seeds, values that are not finite, or lengths that
    differ.
    """
    if not 0 < level < 1:
        raise ConfigError(f"an interval needs 0 < level < 1, not {level}")
    differences = np.asarray(differences_S, dtype=np.float64)
    if len(differences) == 0 or len(differences) != len(blocks_S) or not np.isfinite(differences).all():
        raise ContractError(f"{len(differences)} differences in {len(blocks_S)} blocks: one block a difference, finite")
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
