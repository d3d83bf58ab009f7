"""No novelty, for arms without a novelty reward. Source: F (a control is a value of `measure`)."""

from __future__ import annotations

import numpy as np

from extra_rl.novelty.base import MeasureParams, Pool, Result

NEEDS_EMBEDDINGS = False


class Params(MeasureParams):
    """No settings."""


def measure(pool: Pool, params: Params, seed: int) -> Result:
    """nov_i = 0 for every rollout; nearest is -1."""
    size = len(pool.groups_N)
    return Result(np.zeros(size), np.full(size, -1, np.int64))
