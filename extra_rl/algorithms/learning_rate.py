"""The learning rate of an iteration, as a share of its peak: a pure function of the iteration's number.

It is no function of the optimizer's steps, because an iteration without a signal takes none: the number of steps of a
run is not known before it ends, the number of iterations is. All mini-batches of an iteration share its rate. Nothing
is stored between iterations, so an interrupted, forked or extended run has the rates of one that was never stopped.
Source: linear decay, and cosine decay (Loshchilov and Hutter 2016, arXiv 1608.03983, without restarts).
"""

from __future__ import annotations

import math
from typing import Literal

Shape = Literal["linear", "cosine"]


def decayed_share(iteration: int, shape: Shape, over: int, final_share: float) -> float:
    """Return the share of the peak learning rate in an iteration: 1 in iteration 0, `final_share` from `over` on.

    With p = min(1, iteration / over), linear: 1 - (1 - final_share) p; cosine: final_share + (1 - final_share)
    (1 + cos(pi p)) / 2.

    Args:
        iteration: counted from 0.
        shape: of the curve.
        over: iterations over which the rate falls, at least 1.
        final_share: share of the peak at its end, from 0 to 1.
    """
    if iteration >= over:
        return final_share
    progress = iteration / over
    remaining = 1.0 - progress if shape == "linear" else (1.0 + math.cos(math.pi * progress)) / 2.0
    return final_share + (1.0 - final_share) * remaining
