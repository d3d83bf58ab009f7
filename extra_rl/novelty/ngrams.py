"""Token n-grams of a group of responses as one incidence matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from extra_rl.novelty.base import IntArray

PADDING = -1  # no token has this id


def ngram_incidence(tokens_R: Sequence[IntArray], n: int) -> NDArray[np.float32]:
    """Which of the group's distinct n-grams each response contains: 1 or 0, shape (R, distinct n-grams).

    A response of fewer than n tokens is one padded n-gram, so that short answers can be compared; an empty
    one contains none. float32 makes products of the matrix fast, and is exact for counts up to 2^24.
    """
    grams = [_windows(np.asarray(tokens_T, np.int64), n) for tokens_T in tokens_R]
    row_of_gram = np.repeat(np.arange(len(grams)), [len(windows) for windows in grams])
    gram_ids = _number(np.concatenate(grams))
    incidence = np.zeros((len(grams), gram_ids.max(initial=-1) + 1), np.float32)
    incidence[row_of_gram, gram_ids] = 1
    return incidence


def _windows(tokens_T: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    if len(tokens_T) == 0:
        return np.empty((0, n), np.int64)
    missing = max(0, n - len(tokens_T))
    padded_T = np.pad(tokens_T, (0, missing), constant_values=PADDING)
    return np.lib.stride_tricks.sliding_window_view(padded_T, n)


def _number(grams: NDArray[np.int64]) -> NDArray[np.int64]:
    """Equal rows get equal numbers 0, 1, ...; column by column, because numbers sort faster than rows."""
    ids = np.zeros(len(grams), np.int64)
    base = grams.max(initial=0) - PADDING + 1
    for tokens in grams.T:
        _, ids = np.unique(ids * base + (tokens - PADDING), return_inverse=True)
    return ids
