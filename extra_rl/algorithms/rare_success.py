"""Advantages that give rare successes more weight than GRPO does (docs/method.md, section 7).

Rows are rollouts (N) in any order; rows with the same label in `groups_N` form a group. As in GRPO, a rollout whose
reward is NaN could not be judged: it leaves its group and has the advantage 0.
"""

from __future__ import annotations

from math import comb, sqrt

import numpy as np
import numpy.typing as npt

from extra_rl.algorithms.groups import Floats, deviation, judged, require_none, require_same_length
from extra_rl.errors import ConfigError


def mean_normalised(rewards_N: npt.NDArray[np.floating], groups_N: npt.NDArray[np.integer]) -> Floats:
    """A_i = (r_i - m) / m for m = mean_G r > 0, and 0 where m = 0; float64, (N,).

    With rewards of 0 and 1 a correct rollout of a group with c correct ones among n has (n - c) / c, at most n - 1, and
    an incorrect one has -1. Rewards may be any numbers of 0 or more: only then is m = 0 a group of equal rewards, and a
    small m a rare success. A group of equal rewards has exactly 0.

    Raises NumericalError for a negative or infinite reward, ContractError for columns of different lengths.
    Source: MaxRL, arXiv 2602.02710. Rewards other than 0 and 1, and no constant added to m: our decision (O).
    """
    groups = judged(rewards_N, groups_N)
    require_none(
        rewards_N < 0,
        "advantage.normalise: mean divides by the mean reward, and rewards are negative",
        "rewards (verify.rewards, verify.weights; a bonus before normalisation), or use normalise: mean_only",
    )
    mean_K = groups.sums(groups.value_N) / np.maximum(groups.size_K, 1)
    deviation_N = deviation(groups)
    # Where a deviation is not 0, some reward of the group is above 0, and so is its mean.
    return np.divide(deviation_N, mean_K[groups.group_N], out=np.zeros_like(deviation_N), where=deviation_N != 0)


def pass_at_k_normalised(rewards_N: npt.NDArray[np.floating], groups_N: npt.NDArray[np.integer], k: int) -> Floats:
    """The advantage of a rollout where the reward belongs to k rollouts at once: 1 if any is correct; float64, (N,).

    Over all subsets of k rollouts of a group with n judged ones, c of them correct: the mean reward is
    R = 1 - C(n - c, k) / C(n, k), its standard deviation s = sqrt(R (1 - R)). A rollout's advantage is the mean of
    (reward - R) / s over the subsets that contain it:

        correct: (1 - R) / s,  incorrect: (1 - R - C(n - c - 1, k - 1) / C(n - 1, k - 1)) / s

    They add up to 0 over a group. For k = 1 this is GRPO with `std_ddof: 0`. Where R is 0 or 1 (no correct rollout, or
    fewer than k incorrect ones) and where n < k, the advantage is 0.

    Raises ConfigError for a reward other than 0 and 1, ContractError for columns of different lengths.
    Source: pass@k training, arXiv 2508.10751. Groups of fewer than k judged rollouts: our decision (O).
    """
    groups = judged(rewards_N, groups_N)
    others_N = groups.member_N & (groups.value_N != 0) & (groups.value_N != 1)
    if others_N.any():
        raise ConfigError(
            f"advantage.normalise: pass_at_k counts correct rollouts, so every reward must be 0 or 1, but "
            f"{others_N.sum()} rollouts have others, such as {groups.value_N[others_N][0]:g}. Leave verify.weights and "
            "verify.rewards as they are by default, or set another advantage.normalise."
        )
    correct_K = groups.sums(groups.value_N)
    counts = list(zip(groups.size_K.tolist(), correct_K.astype(int).tolist(), strict=True))
    # Many groups have the same counts (n, c): each pair is computed once.
    pairs = {count: _pass_at_k_pair(*count, k) for count in set(counts)}
    pairs_K2 = np.array([pairs[count] for count in counts], dtype=np.float64).reshape(-1, 2)
    pair_N2 = pairs_K2[groups.group_N]
    return np.where(groups.member_N, np.where(groups.value_N == 1, pair_N2[:, 0], pair_N2[:, 1]), 0.0)


def _pass_at_k_pair(n: int, c: int, k: int) -> tuple[float, float]:
    """The advantages of a correct and an incorrect rollout of a group with n judged rollouts, c of them correct."""
    if n < k or c == 0 or n - c < k:
        return 0.0, 0.0
    failed = comb(n - c, k) / comb(n, k)  # 1 - R
    scale = sqrt(failed * (1 - failed))
    failed_with_it = comb(n - c - 1, k - 1) / comb(n - 1, k - 1)
    return failed / scale, (failed - failed_with_it) / scale


def balanced_subset(
    correct_N: npt.NDArray[np.bool_], counted_N: npt.NDArray[np.bool_], groups_N: npt.NDArray[np.integer], size: int
) -> npt.NDArray[np.bool_]:
    """Which of the counted rows are kept, at most `size` of each group, (N,): half correct, half incorrect.

    The first size // 2 correct and the first size - size // 2 incorrect rows of a group, in the order of the rows.
    Where one kind has fewer, the other fills the group up. Raises ContractError for columns of different lengths.
    Source: Reinforce-Ada, arXiv 2510.04996; the order of the rows instead of a draw: our decision (O).
    """
    require_same_length(correct=correct_N, counted=counted_N, groups=groups_N)
    kept_N = np.zeros(len(groups_N), bool)
    for label in np.unique(groups_N[counted_N]):
        rows = np.flatnonzero(counted_N & (groups_N == label))
        right, wrong = rows[correct_N[rows]], rows[~correct_N[rows]]
        half = size // 2
        of_right = min(len(right), max(half, size - len(wrong)))
        kept_N[right[:of_right]] = True
        kept_N[wrong[: size - of_right]] = True
    return kept_N
