"""What a sampler is asked and what it answers, whatever engine is behind it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from extra_rl.config.sections import SamplingConfig
from extra_rl.errors import NumericalError


@dataclass(frozen=True)
class Request:
    """One rollout to sample.

    context: token ids the model reads (prompt, and prefix where one is continued).
    max_tokens: how many may be sampled. seed: of this rollout alone, so that its tokens do not depend on its place.
    prefix_length: how many of the context's last tokens belong to the response: a stop string may begin in them.
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
    """What was sampled: token ids (end-of-sequence included), their logprobs under the distribution sampled from
    (nats; temperature, top-p and top-k applied), and why it ended."""

    tokens: list[int]
    logprobs: list[float]
    finish_reason: FinishReason


class Sampler(Protocol):
    """Token ids in, token ids and logprobs out.

    A response ends (`stop`) with an end-of-sequence token, or with the first token after which its text contains one of
    `config.stop`, which may begin in the request's prefix (`sampling.stop`). Either token is part of the sample.
    """

    def sample(
        self,
        requests: Sequence[Request],
        config: SamplingConfig,
        advance: Callable[[int], object],
    ) -> list[Sample]:
        """One sample a request, in the order given; the sampler takes them in `decoding_order(requests)`.

        `advance(n)` is called whenever n more have ended.
        """
        ...


def decoding_order(requests: Sequence[Request]) -> list[int]:
    """The order in which a sampler takes requests into its batches: by length of context, then by context.

    Neighbours of equal length waste least on padding; equal contexts stay together and are read once.
    """
    return sorted(range(len(requests)), key=lambda i: (len(requests[i].context), requests[i].context, i))


def longest_of(requests: Sequence[Request]) -> int:
    """The most tokens that a context and its response may have together."""
    return max(len(request.context) + request.max_tokens for request in requests)


def refuse_not_finite(samples: Sequence[Sample], policy: Path) -> None:
    """NumericalError when a token was sampled with a logprob that is NaN or infinite: the policy is broken."""
    broken = sum(not math.isfinite(sum(sample.logprobs)) for sample in samples)
    if broken:
        raise NumericalError(
            f"the policy {policy} gives logprobs that are not finite, in {broken} of {len(samples)} samples: its "
            "weights hold NaN or infinity. The update before it diverged: lower update.learning_rate. If it is the "
            "initial policy, mend the model."
        )
