"""What a sampler is asked and what it answers, whatever engine is behind it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from extra_rl.errors import NumericalError
from extra_rl.sections import SamplingConfig


@dataclass(frozen=True)
class Request:
    """One rollout to sample.

    context: token ids the model reads (prompt, and prefix where one is continued).
    max_tokens: how many may be sampled. seed: of this rollout alone, so that its tokens do not depend on its place.
    """

    context: tuple[int, ...]
    max_tokens: int
    seed: int


@dataclass(frozen=True)
class Sample:
    """What was sampled: token ids (end-of-sequence included), their logprobs under the distribution sampled from
    (nats; temperature, top-p and top-k applied), and why it ended."""

    tokens: list[int]
    logprobs: list[float]
    finish_reason: Literal["stop", "length"]


class Sampler(Protocol):
    """Token ids in, token ids and logprobs out."""

    def sample(
        self, requests: Sequence[Request], config: SamplingConfig, advance: Callable[[int], object]
    ) -> list[Sample]:
        """One sample a request, in the order given. `advance(n)` is called whenever n more are finished."""
        ...


def decoding_order(requests: Sequence[Request]) -> list[int]:
    """The order in which a sampler takes requests into its batches: by length of context, then by context.

    Neighbours of equal length waste least on padding; equal contexts stay together and are read once.
    """
    return sorted(range(len(requests)), key=lambda i: (len(requests[i].context), requests[i].context, i))


def refuse_not_finite(samples: Sequence[Sample], policy: Path) -> None:
    """NumericalError when a token was sampled with a logprob that is NaN or infinite: the policy is broken."""
    broken = sum(not math.isfinite(sum(sample.logprobs)) for sample in samples)
    if broken:
        raise NumericalError(
            f"the policy {policy} gives logprobs that are not finite, in {broken} of {len(samples)} samples: its "
            "weights hold NaN or infinity. The update before it diverged: lower update.learning_rate. If it is the "
            "initial policy, mend the model."
        )
