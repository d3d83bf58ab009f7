"""One token per row: from logits and a uniform number to a token and its logprob."""

from __future__ import annotations

from typing import TYPE_CHECKING

from extra_rl.config.sections import SamplingConfig

if TYPE_CHECKING:
    from torch import Tensor


def draw(logits_BV: Tensor, uniform_B: Tensor, config: SamplingConfig) -> tuple[Tensor, Tensor]:
    """Draw one token per row by inverting the cumulative distribution; return tokens (B,) int64, logprobs (B,) float32.

    The logprob is that of the distribution sampled from: temperature, then top-k, then top-p, renormalised.
    logits_BV: float32, before the temperature. uniform_B: float64 in [0, 1).
    """
    import torch

    scaled_BV = logits_BV / config.temperature
    if config.top_k or config.top_p < 1:
        scaled_BV = scaled_BV.masked_fill(~_kept(scaled_BV, config), float("-inf"))
    logprob_BV = torch.log_softmax(scaled_BV, dim=-1)
    # float64: a cumulative sum in float32 over a large vocabulary would move the boundaries between tokens.
    cumulative_BV = logprob_BV.double().exp().cumsum(-1)
    # The last sum is 1 up to rounding; scaling by it keeps the target within the distribution.
    target_B = uniform_B * cumulative_BV[:, -1]
    token_B = torch.searchsorted(cumulative_BV, target_B[:, None], right=True).squeeze(1)
    token_B = token_B.clamp(max=logits_BV.shape[-1] - 1)
    return token_B, logprob_BV.gather(1, token_B[:, None]).squeeze(1)


def _kept(scaled_BV: Tensor, config: SamplingConfig) -> Tensor:
    """Tokens (B, V) that top-k and top-p keep: the smallest set of the likeliest tokens with mass of at least top_p."""
    import torch

    sorted_BV, index_BV = scaled_BV.sort(dim=-1, descending=True, stable=True)
    keep_BV = torch.ones_like(sorted_BV, dtype=torch.bool)
    if config.top_k:
        keep_BV[:, config.top_k :] = False
    if config.top_p < 1:
        probability_BV = torch.softmax(sorted_BV.masked_fill(~keep_BV, float("-inf")), dim=-1)
        # A token stays if the mass before it is below top_p: the one that reaches it is included.
        keep_BV &= probability_BV.cumsum(-1) - probability_BV < config.top_p
    return torch.zeros_like(keep_BV).scatter(1, index_BV, keep_BV)
