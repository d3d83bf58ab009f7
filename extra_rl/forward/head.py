"""From hidden states to logprob and entropy: the head and its softmax."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from extra_rl.algorithms.entropy import logprob_and_entropy

if TYPE_CHECKING:
    from torch import Tensor


def head_statistics(head: Any, hidden_XD: Tensor, target_X: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Logprob of the targets and entropy (X,), nats, float32, at `temperature`; differentiable.

    head: the model's `lm_head`. Head and softmax run in the precision of its weights, float32 in training, because a
    logit of 20 in bfloat16 is off by up to 0.06.
    """
    logits_XV = head(hidden_XD.to(head.weight.dtype))
    return logprob_and_entropy(logits_XV, target_X, temperature)
