"""From hidden states to logprob and entropy: the head and its softmax, in bounded memory (decision 0012)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from extra_rl.algorithms.entropy import logprob_and_entropy
from extra_rl.models.family import Head

if TYPE_CHECKING:
    from torch import Tensor

WHOLE = 2**22
"""Logits that are held at once: up to so many the plain formula is as fast, and needs no second pass for a gradient."""


def head_statistics(head: Head, hidden_XD: Tensor, target_X: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Logprob of the targets and entropy (X,), nats, float32, at `temperature`; differentiable.

    head: the model's output layer, any module with a `weight` (V, D), and the transform of its logits. Up to WHOLE
    logits: the plain formula. More:

    - a `torch.nn.Linear`, with or without bias, tied, frozen, or an FSDP2 unit of its own: tile by tile
      (chunked_head.py), called once through its hooks, so that every process of a group communicates once;
    - anything else, such as a head that peft wraps: called on pieces of the tokens, which a backward pass calls again.
      It must not communicate, as processes may hold different numbers of tokens.

    Head and softmax run in float32, because a logit of 20 in bfloat16 is off by up to 0.06; tiles of a bfloat16 weight
    are taken to float32 first. Only a head of the second kind runs in the precision of its weight.
    Raises ConfigError for a temperature that is not above 0.
    """
    import torch

    module, weight_VD = head.module, head.module.weight
    linear = isinstance(module, torch.nn.Linear) and type(module).forward is torch.nn.Linear.forward
    linear = linear and "forward" not in vars(module)  # nobody has replaced it
    small = target_X.numel() * weight_VD.shape[0] <= WHOLE
    if linear and (not small or weight_VD.dtype in (torch.bfloat16, torch.float16)):
        return _tiled(head, hidden_XD, target_X, temperature)
    if small:
        return logprob_and_entropy(head.logits(hidden_XD.to(weight_VD.dtype)), target_X, temperature)
    return _in_pieces(head, hidden_XD, target_X, temperature)


def _tiled(head: Head, hidden_XD: Tensor, target_X: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The tiles instead of the module's own forward, so that its hooks (FSDP2 gathers the weight in them) run."""
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
    """The plain formula on pieces of the tokens; with gradients each piece is computed again in the backward pass."""
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
