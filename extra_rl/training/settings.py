"""What shapes an optimizer step."""

from __future__ import annotations

from dataclasses import dataclass

from extra_rl.scoring.layout import Layout


@dataclass(frozen=True)
class LossSettings:
    """The keys of `update` that shape a step; see `stages/update.py` for what each means."""

    loss: str
    aggregate: str
    clip_low: float
    clip_high: float
    dual_clip: float | None
    importance_cap: float | None
    kl_weight: float
    entropy_weight: float
    signal_only: bool
    tokens_per_batch: int
    learning_rate: float
    warmup_steps: int
    gradient_clip: float
    temperature: float
    max_response_tokens: int
    precision: str = "float32"
    layout: Layout = "auto"
    kl: str = "k3"
