"""What a sampler is asked and what it answers, whatever engine is behind it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from extra_rl.config.sections import Order, SamplingConfig
from extra_rl.errors import NumericalError


@dataclass(frozen=True)
class Request:
    """One rollout to sample.

    context: token ids the model reads (prompt, and prefix where one is continued).
    max_tokens: how many may be sampled. seed: of this rollout alone, so that its tokens do not depend on its place.
    expected: how many are expected, None: as many as may be; it decides nothing but the order of `longest_first`.
    prefix_length: how many of the context's last tokens belong to the response: a stop string may begin in them.
    """

    context: tuple[int, ...]
    max_tokens: int
    seed: int
    expected: int | None = None
    prefix_length: int = 0

    @property
    def prefix(self) -> tuple[int, ...]:
        """The tokens of the context that belong to the response."""
        return self.context[len(self.context) - self.prefix_length :]


FinishReason = Literal["stop", "length", "dropped"]


@dataclass(frozen=True)
class Sample:
    """What was sampled: token ids (end-of-sequence included), their logprobs under the distribution sampled from
    (nats; temperature, top-p and top-k applied), and why it ended; `dropped`: it did not, and may have no token."""

    tokens: list[int]
    logprobs: list[float]
    finish_reason: FinishReason


@dataclass(frozen=True)
class Limits:
    """When a call of a sampler is over before all its requests have ended; None: never.

    ended: once at least so many requests have ended. tokens: once at least so many tokens have been sampled.
    A sampler looks after every step of its batch. What still runs then is `dropped` with the tokens that it has, what
    still waits is `dropped` without any; what ended in that very step has ended.
    """

    ended: int | None = None
    tokens: int | None = None

    def reached(self, ended: int, tokens: int) -> bool:
        """Whether a call is over in which so many requests have ended and so many tokens have been sampled."""
        return (self.ended is not None and ended >= self.ended) or (self.tokens is not None and tokens >= self.tokens)

    def part(self, requests: int, of: int) -> Limits:
        """These limits for a call that has so many requests of a larger one: in proportion, rounded up."""

        def share(limit: int | None) -> int | None:
            return None if limit is None else -(-limit * requests // of)

        return Limits(share(self.ended), share(self.tokens))


NO_LIMITS = Limits()


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
        limits: Limits = NO_LIMITS,
    ) -> list[Sample]:
        """One sample a request, in the order given; the sampler takes them in `decoding_order(requests, config.order)`.

        `advance(n)` is called whenever n more have ended; what is dropped never ends.
        """
        ...


def decoding_order(requests: Sequence[Request], order: Order = "context") -> list[int]:
    """The order in which a sampler takes requests into its batches: by length of context, then by context.

    Neighbours of equal length waste least on padding; equal contexts stay together and are read once.
    `longest_first`: the longest expected responses come first, and only then as above (docs/sampling.md).
    """

    def key(i: int) -> tuple[int, int, tuple[int, ...], int]:
        request = requests[i]
        expected = request.max_tokens if request.expected is None else min(request.expected, request.max_tokens)
        return (-expected if order == "longest_first" else 0, len(request.context), request.context, i)

    return sorted(range(len(requests)), key=key)


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
