"""What a sampler is asked and what it answers, whatever engine is behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field


class SamplingConfig(BaseModel):
    """How tokens are sampled; shared by `generate`, `regenerate`, `score_entropy` and `update`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backend: Literal["transformers"] = Field("transformers", description="engine that samples")
    temperature: float = Field(1.0, gt=0, description="logits are divided by it, here and in every logprob")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus; training refuses values below 1")
    top_k: int = Field(0, ge=0, description="keep the k likeliest tokens; 0: all; training refuses others")
    max_response_tokens: int = Field(64, ge=1, description="response length at which a rollout is cut off")
    batch_rows: int = Field(256, ge=1, description="sequences decoded together")


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
