"""Diagnostics of a mini-batch, summed over its micro-batches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from extra_rl.algorithms import loss as losses

if TYPE_CHECKING:
    from torch import Tensor


class StepSums:
    """Running sums of a mini-batch's diagnostics over its micro-batches."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._loss = 0.0
        self._tokens = self._sampled = 0
        self._importance = self._importance_max = 0.0

    def add(
        self,
        loss: Tensor,
        mask_BT: Tensor,
        sampled_BT: Tensor,
        token: losses.TokenLoss,
        entropy_BT: Tensor,
        ratio_BT: Tensor,
        kl_BT: Tensor | None,
    ) -> None:
        """Add a micro-batch.

        Args:
            loss: the micro-batch's share of the mini-batch's loss, a scalar.
            mask_BT: bool, True at loss tokens.
            sampled_BT: bool, True at loss tokens that were sampled in this call.
            token: loss and diagnostics by token.
            entropy_BT: nats.
            ratio_BT: importance ratio; 0 outside of `sampled_BT`.
            kl_BT: KL to the reference, nats; None without a KL term.
        """
        columns = {
            "clipped_low": token.clip_low_BT,
            "clipped_high": token.clip_high_BT,
            "approx_kl": token.approx_kl_BT,
            "entropy": entropy_BT,
        } | ({} if kl_BT is None else {"kl_to_reference": kl_BT})
        for name, value_BT in columns.items():
            # Summed in float64: micro-batches cut differently would differ in float32.
            value = float(value_BT.detach()[mask_BT].sum(dtype=value_BT.double().dtype))
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._loss += float(loss.detach())
        self._tokens += int(mask_BT.sum())
        self._sampled += int(sampled_BT.sum())
        self._importance += float(ratio_BT.double().sum())
        self._importance_max = max(self._importance_max, float(ratio_BT.max()))

    @classmethod
    def merged(cls, parts: Iterable[StepSums]) -> StepSums:
        """Return the sums of all parts, added in their order."""
        total = cls()
        for part in parts:
            for name, value in part._sums.items():
                total._sums[name] = total._sums.get(name, 0.0) + value
            total._loss += part._loss
            total._tokens += part._tokens
            total._sampled += part._sampled
            total._importance += part._importance
            total._importance_max = max(total._importance_max, part._importance_max)
        return total

    def means(self) -> dict[str, float]:
        """Return the loss, each diagnostic's mean over loss tokens, and mean and maximum of the importance ratio."""
        return {
            **{name: value / max(self._tokens, 1) for name, value in self._sums.items()},
            "loss": self._loss,
            "importance_mean": self._importance / max(self._sampled, 1),
            "importance_max": self._importance_max,
        }
