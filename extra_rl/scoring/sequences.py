"""Token sequences, and the micro-batches in which they are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class TokenSequence:
    """A prompt and its response, as token ids."""

    prompt: Sequence[int]
    response: Sequence[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.response)

    @property
    def tokens(self) -> npt.NDArray[np.int64]:
        """Prompt and response in one array."""
        return np.array([*self.prompt, *self.response], np.int64)


PADDING = 0.05
"""Largest share of a micro-batch that may be padding: another pass costs less than computing more of it (measured,
docs/arithmetic.md)."""


def micro_batches(lengths: Sequence[int], token_budget: int) -> Iterator[list[int]]:
    """Indices in batches of at most `token_budget` padded tokens (at least one row), longest first.

    Sorting by length keeps padding small; a batch also ends where the next row would raise its share of padding above
    PADDING. The order within a batch is stable. Source: our decision.
    """
    batch: list[int] = []
    tokens = 0
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        padded = lengths[batch[0]] * (len(batch) + 1) if batch else 0
        if batch and (padded > token_budget or tokens + lengths[index] < (1 - PADDING) * padded):
            yield batch
            batch, tokens = [], 0
        batch.append(index)
        tokens += lengths[index]
    if batch:
        yield batch
