"""How many steps a decoding sampler takes for the requests of one call.

A sampler decodes at most so many rows together and gives the place of a row that ended to a request that waits. So

    steps = min(ceil(sequences / rows) x longest, sequences x mean / (rows x filled) + longest - mean)

The rows are full while requests wait, so that all tokens are divided by the rows at work; the last row to end runs to
the limit where others end at the mean. It is never more than whole batches of the longest, which is what it is where
all rows have room at once or all sequences are as long as the longest. Source: after Graham 1969 (list scheduling), our
decision; `tests/planning/test_steps.py` holds it against the real sampler.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from extra_rl.sampling.decode import COMPACT_BELOW

FILLED = {"transformers": (1 + COMPACT_BELOW) / 2, "vllm": 1.0}
"""Share of the rows that is at work while requests wait, by backend: the transformers sampler takes new ones in once
fewer than COMPACT_BELOW of its rows go on, vLLM at every step."""


@dataclass(frozen=True)
class Call:
    """Requests of one call. sequences: to sample; contexts: distinct ones among theirs; prompt: tokens of a context;
    mean, longest: tokens sampled for one, at the mean and by those that run to their limit."""

    sequences: float
    contexts: float
    prompt: float
    mean: float
    longest: float

    @property
    def behind(self) -> float:
        """Mean over all decoding steps of a row of the tokens that it has sampled before: E[n^2] / 2 E[n].

        Lengths are taken to spread as longest x u^k, u uniform, with the k that gives their mean, so that it is
        longest^2 / (2 (2 longest - mean)): a third of the longest at a mean of half of it, a half where all are equal.
        """
        return self.longest**2 / (2 * (2 * self.longest - self.mean))

    def share_of(self, count: float) -> Call:
        """One of `count` equal parts."""
        return replace(self, sequences=self.sequences / count, contexts=self.contexts / count)


def joined(first: Call, second: Call) -> Call:
    """Both in one call: means weighted by sequences, the longest of both."""
    sequences = first.sequences + second.sequences
    if not sequences:
        return first

    def both(name: str) -> float:
        parts = [float(getattr(call, name)) * call.sequences for call in (first, second)]
        return sum(parts) / sequences

    longest = max(call.longest for call in (first, second) if call.sequences)
    return Call(sequences, first.contexts + second.contexts, both("prompt"), both("mean"), longest)


def refills(call: Call, rows: float) -> bool:
    """Whether rows of different ages are decoded together: requests wait, and their lengths differ."""
    return call.sequences > rows and call.mean < call.longest


def decoding_steps(call: Call, rows: float, backend: str) -> float:
    """Steps of a call at `rows` sequences at a time."""
    whole_batches = math.ceil(call.sequences / rows) * call.longest
    if not refills(call, rows):
        return whole_batches
    full = call.sequences * call.mean / (rows * FILLED[backend])
    return min(whole_batches, full + call.longest - call.mean)
