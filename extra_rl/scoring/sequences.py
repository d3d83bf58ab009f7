"""A prompt with its response, as token ids."""

from __future__ import annotations

from collections.abc import Sequence
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
