"""Advantages that differ between the tokens of a rollout (docs/method.md, section 7).

Axes: N rollouts in any order, T response tokens of one rollout.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from extra_rl.algorithms.groups import Floats, deviation, group_members, judged
from extra_rl.errors import ContractError, NumericalError

ROUNDING = 1e-9
"""A difference of two mean rewards up to this value counts as 0: the means of equal rewards differ by about 1e-16."""


def entropy_signal(entropies_T: npt.NDArray[np.floating], correct: bool, weight: float, start: int = 0) -> Floats:
    """The signal of a rollout whose group has equal rewards, (T,), float64; 0 before `start`.

    correct:   weight * H_t                    (an uncertain step of a right path is reinforced most)
    incorrect: -weight * (max_s H_s - H_t)     (a certain step of a wrong path is penalised most)

    Args:
        entropies_T: H_t, full-vocabulary entropy of the policy that sampled, before each token; nats, no gradient.
        correct: whether all rollouts of the group are correct, or all are incorrect.
        weight: alpha of the paper.
        start: first token with loss; the maximum is taken over the tokens from it on.
    Raises NumericalError for an entropy that is not finite, ContractError where `start` is outside the response.
    Source: RL-ZVP, arXiv 2509.21880, equation 5. `start`: our decision (O).
    """
    if not 0 <= start <= len(entropies_T):
        raise ContractError(f"the loss cannot start at token {start} of a response of {len(entropies_T)} tokens")
    own_T = np.asarray(entropies_T, np.float64)[start:]
    if not np.isfinite(own_T).all():
        raise NumericalError("an entropy of the policy is NaN or infinite; check its scores (score_entropy)")
    signal_T = np.zeros(len(entropies_T))
    if len(own_T):
        signal_T[start:] = weight * (own_T if correct else own_T - own_T.max())
    return signal_T


class Segments(NamedTuple):
    """Advantages of the two segments of each continuation, float64, (N,); 0 for rows that are no continuation."""

    prefix_N: Floats  # of the tokens of its prefix
    own_N: Floats  # of the tokens that it sampled


def segment_advantages(
    rewards_N: npt.NDArray[np.floating],
    groups_N: npt.NDArray[np.integer],
    prefixes_N: npt.NDArray[np.integer],
) -> Segments:
    """Prefix tokens: V(prefix) - V(prompt). Sampled tokens: r_i - V_-i(prefix). For continuations only.

    V(prompt) is the mean reward of the fresh rollouts of the group, V(prefix) that of the continuations of a prefix,
    and V_-i leaves rollout i out, so that its own reward is no part of its baseline. Only judged rollouts (reward not
    NaN) count; an unjudged one has 0 in both segments.

    - The only judged continuation of a prefix is compared with V(prompt): both segments have r - V(prompt).
    - Without a judged fresh rollout V(prompt) is unknown: prefix tokens have 0, and so has an only continuation.

    Args:
        rewards_N: verified rewards of fresh rollouts and continuations; NaN: excluded.
        groups_N: label of the group of the prompt.
        prefixes_N: label of the prefix that a continuation continues; -1 for a fresh rollout.
    Raises NumericalError for an infinite reward, ContractError for columns of different lengths.
    Source: our decision (O); Monte Carlo values of intermediate states as in VinePPO, arXiv 2410.01679.
    """
    rows = judged(rewards_N, groups_N)
    continuation_N = prefixes_N >= 0
    fresh = group_members(rewards_N, rows.member_N & ~continuation_N, groups_N)
    of_prefix = group_members(rewards_N, rows.member_N & continuation_N, prefixes_N)
    with np.errstate(invalid="ignore"):
        prompt_N = (fresh.sums(fresh.value_N) / np.where(fresh.size_K, fresh.size_K, np.nan))[fresh.group_N]
        prefix_N = (of_prefix.sums(of_prefix.value_N) / np.where(of_prefix.size_K, of_prefix.size_K, np.nan))[
            of_prefix.group_N
        ]
    size_N = of_prefix.size_K[of_prefix.group_N]
    progress_N = np.nan_to_num(prefix_N - prompt_N)
    progress_N[np.abs(progress_N) <= ROUNDING] = 0.0
    # r_i minus the mean of the others is n / (n - 1) times its deviation from the mean of all n.
    leave_one_out_N = deviation(of_prefix) * size_N / np.maximum(size_N - 1, 1)
    own_N = np.where(size_N == 1, progress_N, leave_one_out_N)
    counts_N = of_prefix.member_N
    return Segments(np.where(counts_N, progress_N, 0.0), np.where(counts_N, own_N, 0.0))
