"""Aggregation of token losses to one number (docs/method.md, section 1), with three weightings of tokens and sequences.

The denominator is that of the whole mini-batch and is passed in, so the results of micro-batches ADD UP to the result
of the mini-batch, however it is split. A mean over each micro-batch would weight tokens by the split.
`loss_BT` is (B, T); `mask_BT` is bool, (B, T), True at loss tokens. Other tokens contribute nothing, not even a NaN.
Diagnostics are aggregated in the same way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from extra_rl.errors import NumericalError

if TYPE_CHECKING:
    from torch import Tensor


def token_mean(loss_BT: Tensor, mask_BT: Tensor, denominator: float) -> Tensor:
    """sum of loss over loss tokens / denominator: every token has equal weight. DAPO, arXiv 2503.14476; R.

    denominator: the number of loss tokens of the mini-batch. Raises NumericalError unless it is above 0.
    """
    return _loss_tokens(loss_BT, mask_BT).sum() / _positive(denominator)


def sequence_mean(loss_BT: Tensor, mask_BT: Tensor, denominator: float) -> Tensor:
    """sum_i (mean of loss over the loss tokens of sequence i) / denominator: every sequence has equal weight.

    GRPO, arXiv 2402.03300, and GSPO, arXiv 2507.18071. A sequence without loss tokens adds 0.
    denominator: the number of sequences of the mini-batch. Raises NumericalError unless it is above 0.
    """
    length_B = mask_BT.sum(dim=-1).clamp(min=1)
    return (_loss_tokens(loss_BT, mask_BT).sum(dim=-1) / length_B).sum() / _positive(denominator)


def constant_denominator(loss_BT: Tensor, mask_BT: Tensor, denominator: float, *, max_tokens: int) -> Tensor:
    """sum of loss over loss tokens / (denominator * max_tokens): the weight of a token does not depend on any length.

    Dr. GRPO, arXiv 2503.20783.

    Args:
        loss_BT, mask_BT: token losses and the mask of loss tokens.
        denominator: the number of sequences of the mini-batch.
        max_tokens: the longest response allowed, a constant of the run.
    Raises NumericalError unless denominator and max_tokens are above 0.
    """
    return _loss_tokens(loss_BT, mask_BT).sum() / _positive(denominator * max_tokens)


def _loss_tokens(loss_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """The loss with 0 at masked tokens. They are selected, not multiplied by 0, because 0 * NaN is NaN."""
    import torch

    return torch.where(mask_BT, loss_BT, 0.0)


def _positive(denominator: float) -> float:
    """The denominator; raises NumericalError unless it is above 0."""
    if denominator <= 0:
        raise NumericalError(
            f"a loss cannot be divided by {denominator}: the mini-batch has no loss token; skip its update"
        )
    return denominator
