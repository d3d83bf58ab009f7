"""Mismatch of the sampler's distribution and the policy that is trained (docs/method.md, section 1)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from extra_rl.algorithms.loss import MAX_LOG_RATIO

TOLERANCE = {"float32": 0.01, "bfloat16": 0.2}
"""Default tolerance of the mean of |d| over tokens, in nats. Measured on a CPU with a model of three layers: 2e-6 in
float32 (kernels of lower precision may differ by thousandths) and 0.04 in bfloat16, whose logits between 16 and 32 are
0.125 apart; a deeper model rounds more often. With an outdated output head the mean was 0.45."""

Floats = npt.NDArray[np.floating[Any]]


class Mismatch(NamedTuple):
    """Statistics over the sampled tokens of an iteration; None without a token."""

    mean: float | None  # nats
    p99: float | None  # nats
    max_ratio: float | None
    kl: float | None  # nats


def mismatch(policy_logprob_N: Floats, sampler_logprob_N: Floats) -> Mismatch:
    """Statistics of d = ln pi_policy - ln pi_sampler over sampled tokens (N), both at the sampling temperature, in
    nats.

    mean: mean |d|. p99: 99th percentile of |d|, interpolated linearly. max_ratio: max e^|d|, at least 1. kl: mean of
    e^d - 1 - d, an unbiased and non-negative estimate of KL(sampler || policy) for tokens of the sampler (k3: John
    Schulman, "Approximating KL Divergence", 2020). For the last two d is clamped to +-20.
    Computed in float64 with expm1, because d is mostly rounding. Source of the other statistics: our decision (O).
    """
    if not len(policy_logprob_N):
        return Mismatch(None, None, None, None)
    difference_N = policy_logprob_N.astype(np.float64) - sampler_logprob_N.astype(np.float64)
    size_N = np.abs(difference_N)
    bounded_N = np.clip(difference_N, -MAX_LOG_RATIO, MAX_LOG_RATIO)
    return Mismatch(
        mean=float(size_N.mean()),
        p99=float(np.quantile(size_N, 0.99)),
        max_ratio=float(np.exp(np.abs(bounded_N).max())),
        kl=float((np.expm1(bounded_N) - bounded_N).mean()),
    )
