"""Log-probability and exact entropy of the policy at the sampling temperature (docs/method.md, section 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from extra_rl.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor


def logprob_and_entropy(logits_XV: Tensor, targets_X: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """ln p(target) and H = -sum_v p_v ln p_v with p = softmax(logits / temperature); (X,), float32, nats.

    X stands for any leading axes, V for the whole vocabulary; nothing is truncated or estimated. Logits of any floating
    type are converted to float32 first. They must be finite. Both results are differentiable with respect to them. Peak
    memory is a few float32 copies of the logits, so the caller passes a chunk of the tokens at a time.

    Raises ConfigError unless the temperature is above 0. Source: both are taken at the sampling temperature, because
    the policy that is trained is the one that sampled (O).
    """
    check_temperature(temperature)
    log_p_XV = (logits_XV.float() / temperature).log_softmax(dim=-1)
    logprob_X = log_p_XV.gather(-1, targets_X.unsqueeze(-1)).squeeze(-1)
    entropy_X = -(log_p_XV.exp() * log_p_XV).sum(dim=-1)
    return logprob_X, entropy_X


def check_temperature(temperature: float) -> None:
    """Raise ConfigError unless the temperature is above 0."""
    if temperature <= 0:
        raise ConfigError(f"the temperature must be above 0, not {temperature}")
