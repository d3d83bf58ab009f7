"""From hidden states to logprob and entropy: the head and its softmax, in bounded memory (decision 0012)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from extra_rl.algorithms.entropy import logprob_and_entropy
from extra_rl.models.family import Head

if TYPE_CHECKING:
    from torch import Tensor

WHOLE = 2**22
"""Largest number of logits held whole: up to it the plain formula is as fast, and recomputes nothing."""


def head_statistics(head: Head, hidden_XD: Tensor, target_X: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return the logprob of the targets and the entropy, both (X,), nats, float32; differentiable.

    Up to WHOLE logits: the plain formula. More:

    - a `torch.nn.Linear`, with or without bias, tied, frozen, or a separate FSDP2 unit: tile by tile
      (chunked_head.py), called once through its hooks, so that every process of a group communicates once;
    - anything else, such as a head that peft wraps: called on pieces of the tokens, which a backward pass calls again.
      It must not communicate, because processes may hold different numbers of tokens.

    Head and softmax run in float32, because the error of a logit of 20 in bfloat16 is up to 0.06; tiles of a bfloat16
    weight are converted to float32 first. Only a head of the second kind runs in the precision of its weight.
    Raises ConfigError for a temperature that is not above 0.

    Args:
        head: the model's output layer, any module with a `weight` (V, D), and the transform of its logits.
        hidden_XD: hidden states of X tokens.
        target_X: token ids, int64.
        temperature: divides the logits.
    """
    import torch

    module, weight_VD = head.module, head.module.weight
    linear = isinstance(module, torch.nn.Linear) and type(module).forward is torch.nn.Linear.forward
    linear = linear and "forward" not in vars(module)  # not replaced on this instance
    small = target_X.numel() * weight_VD.shape[0] <= WHOLE
    if linear and (not small or weight_VD.dtype in (torch.bfloat16, torch.float16)):
        return _tiled(head, hidden_XD, target_X, temperature)
    if small:
        return logprob_and_entropy(head.logits(hidden_XD.to(weight_VD.dtype)), target_X, temperature)
    return _in_pieces(head, hidden_XD, target_X, temperature)


def _tiled(head: Head, hidden_XD: Tensor, target_X: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Replace the module's forward by the tiles for one call, so that its hooks run: FSDP2 gathers the weight there."""
    from extra_rl.scoring.chunked_head import tiled_statistics

    module = head.module

    def forward(hidden_XD: Tensor) -> tuple[Tensor, Tensor]:
        return tiled_statistics(module.weight, module.bias, hidden_XD, target_X, temperature, head.scale, head.cap)

    module.forward = forward
    try:
        found: tuple[Tensor, Tensor] = module(hidden_XD)
    finally:
        del module.forward
    return found


def _in_pieces(head: Head, hidden_XD: Tensor, target_X: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Apply the plain formula to pieces of the tokens; the backward pass computes each piece again."""
    import torch
    from torch.utils.checkpoint import checkpoint

    weight_VD = head.module.weight

    def piece(hidden_PD: Tensor, target_P: Tensor) -> tuple[Tensor, Tensor]:
        return logprob_and_entropy(head.logits(hidden_PD.to(weight_VD.dtype)), target_P, temperature)

    rows = max(1, WHOLE // weight_VD.shape[0])
    call = partial(checkpoint, piece, use_reentrant=False) if torch.is_grad_enabled() else piece
    starts = range(0, len(target_X), rows)
    pieces = [call(hidden_XD[start : start + rows], target_X[start : start + rows]) for start in starts]
    logprobs, entropies = zip(*pieces, strict=True)
    return torch.cat(logprobs), torch.cat(entropies)
