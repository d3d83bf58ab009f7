"""Token n-grams of a group of responses as one incidence matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from extra_rl.novelty.base import IntArray

PADDING = -1  # no token has this id


def ngram_incidence(tokens_R: Sequence[IntArray], n: int) -> NDArray[np.float32]:
    """Which of the distinct n-grams of a group each response contains: 1 or 0, shape (R, distinct n-grams).

    A response of fewer than n tokens is one padded n-gram, so that short responses can be compared. An empty response
    contains none. float32 makes matrix products fast and is exact for counts up to 2^24.
    """
    grams = [_windows(np.asarray(tokens_T, np.int64), n) for tokens_T in tokens_R]
    row_of_gram = np.repeat(np.arange(len(grams)), [len(windows) for windows in grams])
    gram_ids = _number(np.concatenate(grams))
    incidence = np.zeros((len(grams), gram_ids.max(initial=-1) + 1), np.float32)
    incidence[row_of_gram, gram_ids] = 1
    return incidence


def _windows(tokens_T: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """The n-grams of a response in order, (n-grams, n); padded on the right to at least one."""
    if len(tokens_T) == 0:
        return np.empty((0, n), np.int64)
    missing = max(0, n - len(tokens_T))
    padded_T = np.pad(tokens_T, (0, missing), constant_values=PADDING)
    return np.lib.stride_tricks.sliding_window_view(padded_T, n)


def _number(grams: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers 0, 1, ... of the rows, equal for equal rows.

    Columns are combined one after the other into one number, because sorting numbers is faster than sorting rows.
    """
    ids = np.zeros(len(grams), np.int64)
    base = grams.max(initial=0) - PADDING + 1
    for tokens in grams.T:
        _, ids = np.unique(ids * base + (tokens - PADDING), return_inverse=True)
    return ids
