"""Surprise: how much less likely a rollout is than its siblings, under the policy that sampled it.

R names a surprise alternative without a formula. This is our reading (O). It is relative to the siblings, because the
absolute value mostly measures how uncertain the policy is about the prompt, which they share.
"""

from __future__ import annotations

import numpy as np

from extra_rl.errors import NumericalError
from extra_rl.novelty.base import FloatArray, Pool, Result, SiblingParams
from extra_rl.novelty.comparison import neighbourhoods

NEEDS_EMBEDDINGS = False


class Params(SiblingParams):
    """The siblings whose mean is the expected surprise."""


def measure(pool: Pool, params: Params, seed: int) -> Result:
    """nov_i = max(0, s_i - mean over siblings j in C_i of s_j), with s = -mean of logprob_T in nats per token.

    Remembered rollouts are left out: earlier policies sampled them, and the memory has no log-probabilities. The
    novelty is 0 without a sibling in C_i. An empty response has s = 0. `nearest_N` is -1.
    Raises NumericalError where a log-probability is NaN or infinite. Source: O.
    """
    surprise_N = np.array([_surprise(logprobs_T) for logprobs_T in pool.logprobs_N])
    if not np.isfinite(surprise_N).all():
        first = pool.rollout_ids_N[int(np.isfinite(surprise_N).argmin())]
        raise NumericalError(
            f"Rollout {first} has a NaN or infinite log-probability, or none: check its scores (score_entropy)."
        )
    novelty_N = np.zeros(len(surprise_N))
    for group in neighbourhoods(pool, params.pool):
        surprise_K = surprise_N[group.rollouts_K]
        siblings_KK = group.compared_KR[:, : len(surprise_K)]
        count_K = siblings_KK.sum(axis=1)
        excess_K = surprise_K - siblings_KK @ surprise_K / np.maximum(count_K, 1)
        novelty_N[group.rollouts_K] = np.where(count_K > 0, np.maximum(0.0, excess_K), 0.0)
    return Result(novelty_N, np.full(len(novelty_N), -1, np.int64))


def _surprise(logprobs_T: FloatArray) -> float:
    """-mean of the log-probabilities, in nats per token; 0 for an empty response."""
    return -float(np.mean(logprobs_T, dtype=np.float64)) if len(logprobs_T) else 0.0
