"""The interface of every sampler: requests, samples, and the order of decoding."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from extra_rl.config.sections import SamplingConfig
from extra_rl.errors import NumericalError

Advance = Callable[[int], object]
"""Called with the number of responses that have just ended, for a progress line."""


def no_progress(count: int) -> None:
    """Report nothing (`Advance`)."""


@dataclass(frozen=True)
class Request:
    """One rollout to sample.

    context: token ids that the model reads: the prompt, and the prefix of a continuation.
    max_tokens: largest number of tokens to sample. seed: of this rollout alone, so that its tokens do not depend on its
    place in a batch.
    prefix_length: number of the context's last tokens that belong to the response: a stop string may begin in them.
    """

    context: tuple[int, ...]
    max_tokens: int
    seed: int
    prefix_length: int = 0

    @property
    def prefix(self) -> tuple[int, ...]:
        """The tokens of the context that belong to the response."""
        return self.context[len(self.context) - self.prefix_length :]


FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Sample:
    """The answer to a request.

    tokens: sampled ids, end-of-sequence included. logprobs: of the distribution that was sampled from (nats;
    temperature, top-p and top-k applied). finish_reason: why the response ended.
    """

    tokens: list[int]
    logprobs: list[float]
    finish_reason: FinishReason


class Sampler(Protocol):
    """Token ids in, token ids and logprobs out.

    A response ends (`stop`) with an end-of-sequence token, or with the first token after which its text contains one of
    `config.stop`, which may begin in the request's prefix (`sampling.text`). Either token is part of the sample.
    """

    def sample(self, requests: Sequence[Request], config: SamplingConfig, advance: Advance) -> list[Sample]:
        """Return one sample per request, in the order given; they are decoded in `decoding_order(requests)`."""
        ...


def decoding_order(requests: Sequence[Request]) -> list[int]:
    """Return the order in which a sampler takes requests into its batches: by length of context, then by context.

    Neighbours of equal length need the least padding; equal contexts stay together and are read once.
    """
    return sorted(range(len(requests)), key=lambda i: (len(requests[i].context), requests[i].context, i))


def longest_of(requests: Sequence[Request]) -> int:
    """Return the largest number of tokens that a context and its response may have together."""
    return max(len(request.context) + request.max_tokens for request in requests)


def refuse_not_finite(samples: Sequence[Sample], policy: Path) -> None:
    """Raise NumericalError where a sampled token has a logprob of NaN or infinity: the policy is broken."""
    broken = sum(not math.isfinite(sum(sample.logprobs)) for sample in samples)
    if broken:
        raise NumericalError(
            f"the policy {policy} gives logprobs that are not finite, in {broken} of {len(samples)} samples: its "
            "weights contain NaN or infinity. The previous update diverged: lower update.learning_rate. If it is the "
            "initial policy, repair the model."
        )
