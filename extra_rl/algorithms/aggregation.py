"""From losses per token to one number (docs/method.md, section 1): three ways to weigh tokens and sequences.

The denominator always belongs to the whole mini-batch and is passed in: the results of its micro-batches then
ADD UP to its own, however it is cut. A mean over each micro-batch would weigh tokens by the luck of the cut.
`mask_BT` is bool, True at loss tokens; other tokens contribute nothing, not even a NaN. Diagnostics are
aggregated the same way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from extra_rl.errors import NumericalError

if TYPE_CHECKING:
    from torch import Tensor


def token_mean(loss_BT: Tensor, mask_BT: Tensor, denominator: float) -> Tensor:
    """sum of loss over loss tokens / denominator: every token weighs the same. DAPO, arXiv 2503.14476; R.

    denominator: the number of loss tokens of the mini-batch. Raises NumericalError unless it is above 0.
    """
    return _loss_tokens(loss_BT, mask_BT).sum() / _positive(denominator)


def sequence_mean(loss_BT: Tensor, mask_BT: Tensor, denominator: float) -> Tensor:
    """sum_i (mean of loss over the loss tokens of sequence i) / denominator: every sequence weighs the same.

    GRPO, arXiv 2402.03300, and GSPO, arXiv 2507.18071. A sequence without loss tokens adds 0.
    denominator: the number of sequences of the mini-batch. Raises NumericalError unless it is above 0.
    """
    length_B = mask_BT.sum(dim=-1).clamp(min=1)
    return (_loss_tokens(loss_BT, mask_BT).sum(dim=-1) / length_B).sum() / _positive(denominator)


def constant_denominator(loss_BT: Tensor, mask_BT: Tensor, denominator: float, *, max_tokens: int) -> Tensor:
    """sum of loss over loss tokens / (denominator * max_tokens): no token's weight depends on any length.

    Dr. GRPO, arXiv 2503.20783. denominator: the number of sequences of the mini-batch; max_tokens: the
    longest response allowed, a constant of the run. Raises NumericalError unless both are above 0.
    """
    return _loss_tokens(loss_BT, mask_BT).sum() / _positive(denominator * max_tokens)


def _loss_tokens(loss_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """The loss with 0 at masked tokens; selected and not multiplied, because 0 * NaN is NaN."""
    import torch

    return torch.where(mask_BT, loss_BT, 0.0)


def _positive(denominator: float) -> float:
    if denominator <= 0:
        raise NumericalError(
            f"a loss cannot be divided by {denominator}: the mini-batch has no loss token; skip its update"
        )
    return denominator
