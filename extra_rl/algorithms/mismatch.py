"""How far the distribution that was sampled from lies from the policy that is trained (docs/method.md, section 1)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from extra_rl.algorithms.loss import MAX_LOG_RATIO

TOLERANCE = {"float32": 0.01, "bfloat16": 0.2}
"""Nats, on the mean of |d| over tokens, where the configuration specifies none. Measured on a CPU, with a model of
three layers: 2e-6 in float32 (kernels of lower precision may differ by thousandths), 0.04 in bfloat16, whose logits
between 16 and 32 come in steps of 0.125; a deeper model rounds more often. A stale head differed by 0.45."""

Floats = npt.NDArray[np.floating[Any]]


class Mismatch(NamedTuple):
    """Figures over the sampled tokens of an iteration; None without a token."""

    mean: float | None  # nats
    p99: float | None  # nats
    max_ratio: float | None
    kl: float | None  # nats


def mismatch(policy_logprob_N: Floats, sampler_logprob_N: Floats) -> Mismatch:
    """With d = ln pi_policy - ln pi_sampler, both at the sampling temperature, one a sampled token:

    mean = mean |d|; p99 = the 99th percentile of |d|, linear between ranks; max_ratio = max e^|d|, at least 1;
    kl = mean of e^d - 1 - d, which under tokens of the sampler estimates KL(sampler || policy) without bias and is
    never negative (k3: John Schulman, "Approximating KL Divergence", 2020). d is held within +-20 for the last two.
    float64 throughout, by expm1, as d is mostly rounding. Source of the others: our decision.
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
