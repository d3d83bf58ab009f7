"""A mini-batch becomes one optimizer step: micro-batches, loss, gradient, clipping, metrics."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extra_rl.algorithms import aggregation
from extra_rl.algorithms import loss as losses
from extra_rl.errors import NumericalError
from extra_rl.models.family import without_dropout
from extra_rl.models.probe import probe_of
from extra_rl.scoring.batches import Piece, micro_batches_by_process, token_shares
from extra_rl.scoring.layout import budget_of, chosen, token_statistics
from extra_rl.training.lora import frozen_base
from extra_rl.training.metrics import StepSums
from extra_rl.training.optimizer import steps_taken
from extra_rl.training.parallel import Parallel, whole
from extra_rl.training.rollouts import TrainingRollout
from extra_rl.training.settings import UpdateSettings

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from extra_rl.models.protocol import CausalLM


def reference_model(manifest: Path, device: str = "cpu") -> Any:
    """Return the frozen initial policy for the KL term, with its head already read: it may be sharded afterwards."""
    from extra_rl.models.policy import load_policy_model

    model = load_policy_model(manifest, device=device).requires_grad_(False)
    probe_of(model)
    return model


class Trainer:
    """Takes optimizer steps on one policy. Several processes must all take each step, on the same rollouts.

    learning_rate_share: share of the peak learning rate in this iteration.
    """

    def __init__(
        self,
        model: CausalLM,
        optimizer: torch.optim.Optimizer,
        settings: UpdateSettings,
        reference: Any | None,
        parallel: Parallel | None = None,
        learning_rate_share: float = 1.0,
    ) -> None:
        self._model, self._optimizer, self._settings, self._reference = model, optimizer, settings, reference
        self._parallel = parallel or Parallel()
        self._rate = settings.learning_rate * learning_rate_share
        self._layout = chosen(settings.layout, model)
        self._budget = budget_of(self._layout, model, settings.tokens_per_batch)
        without_dropout(model)

    def step(self, rollouts: Sequence[TrainingRollout]) -> dict[str, float] | None:
        """Take one optimizer step on a mini-batch; return its metrics, or None where no row has a signal.

        Rows whose advantage is 0 at every token with loss skip the forward and backward pass but stay in the
        denominator. Weight decay and momentum would move the weights even at a zero gradient, so a mini-batch without a
        signal takes no step.
        Raises NumericalError when loss or gradient is not finite; the weights are then unchanged.
        """
        import torch

        settings = self._settings
        every_row = settings.every_row_has_gradient
        active = [r for r in rollouts if r.has_signal or (every_row and r.loss_tokens > 0)]
        if not active:
            return None
        counted = [r for r in (active if settings.signal_only else rollouts) if r.loss_tokens > 0]
        self._optimizer.zero_grad()
        total = StepSums()
        sequences = [r.sequence for r in active]
        plans = micro_batches_by_process(sequences, self._layout, self._budget, self._parallel.world)
        for batch, weight in self._micro_batches(active, plans):
            sums = total if weight else StepSums()  # a rollout that is computed twice is counted once
            loss = self._parallel.forward(self._model, lambda b=batch, s=sums: self._loss(b, counted, s))  # type: ignore[misc]
            loss = loss if weight else 0.0 * loss
            if not math.isfinite(loss.item()):
                raise NumericalError(
                    f"the loss is {loss.item()} on a micro-batch that starts with rollout {batch[0].rollout_id}. The "
                    "policy has diverged: lower update.learning_rate, or inspect its policy_logprobs."
                )
            loss.backward()  # type: ignore[no-untyped-call]
        norm = float(whole(torch.nn.utils.clip_grad_norm_(self._model.parameters(), settings.gradient_clip)))
        if not math.isfinite(norm):
            raise NumericalError(f"the norm of the gradient is {norm}: lower update.learning_rate.")
        rate = self._learning_rate()
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        total = StepSums.merged(self._parallel.gather(total))
        return {
            "rows": len(counted),
            "signal_rows": len(active),
            "loss_tokens": sum(r.loss_tokens for r in counted),
            "computed_tokens": sum(batch.computed for batches in plans for batch in batches),
            "gradient_norm": norm,
            "learning_rate": rate,
            **token_shares([batch for batches in plans for batch in batches]),
            **total.means(),
        }

    def _micro_batches(
        self, active: Sequence[TrainingRollout], plans: Sequence[Sequence[Piece]]
    ) -> Iterator[tuple[list[TrainingRollout], float]]:
        """Yield this process's micro-batches, each with its weight in the loss: 1, or 0 for a repeated one.

        Every process must run as many forward and backward passes as the others, because FSDP gathers weights in them;
        a process with fewer micro-batches runs the shortest rollout with zero weight.
        """
        mine = plans[self._parallel.rank]
        for batch in mine:
            yield [active[i] for i in batch.rows], 1.0
        shortest = min(active, key=lambda r: len(r.sequence))
        for _ in range(max(map(len, plans)) - len(mine)):
            yield [shortest], 0.0

    def _learning_rate(self) -> float:
        """Learning rate of the next step: the iteration's, after a linear rise over the warm-up steps of the run."""
        done, warmup = steps_taken(self._optimizer), self._settings.warmup_steps
        return self._rate * (min(1.0, (done + 1) / warmup) if warmup else 1.0)

    def _loss(self, batch: Sequence[TrainingRollout], counted: Sequence[TrainingRollout], total: StepSums) -> Tensor:
        """Return the micro-batch's share of the mini-batch's loss, a scalar; add its diagnostics to `total`."""
        import torch

        settings = self._settings
        sequences = [r.sequence for r in batch]
        how = (settings.sampling.temperature, settings.compute.precision, self._layout)
        logprob_BT, entropy_BT, response_BT = token_statistics(self._model, sequences, *how)
        step_T = torch.arange(response_BT.shape[1], device=response_BT.device)
        start_B1 = torch.tensor([[r.loss_start] for r in batch], device=response_BT.device)
        prefix_B1 = torch.tensor([[r.prefix_length] for r in batch], device=response_BT.device)
        # Loss tokens; among them those that this iteration's sampler drew, to which importance weights apply.
        mask_BT = response_BT & (step_T >= start_B1)
        sampled_BT = mask_BT & (step_T >= prefix_B1)
        old_BT = _padded([r.old_logprobs for r in batch], logprob_BT)
        sampler_BT = _padded([r.sampler_logprobs for r in batch], logprob_BT)
        advantage_BT = _advantages(batch, old_BT)
        token = self._policy_loss(logprob_BT, old_BT, advantage_BT, mask_BT)
        ratio = losses.importance_weight(old_BT, sampler_BT, sampled_BT, settings.importance_cap or math.inf)
        loss_BT = token.loss_BT
        if settings.importance_cap is not None:  # a prefix was not sampled by this policy: its weight is 1
            loss_BT = loss_BT * torch.where(sampled_BT, ratio.weight_BT, 1.0)
        kl_BT = None
        if self._reference is not None:
            # With adapters the reference is the policy itself, without them: no second model is held.
            with torch.no_grad(), frozen_base(self._reference) as base:
                reference_BT = self._parallel.forward(base, lambda: token_statistics(base, sequences, *how)[0])
            penalty = losses.kl_penalty(settings.kl, logprob_BT, reference_BT)
            kl_BT = penalty.value_BT
            loss_BT = loss_BT + settings.kl_weight * penalty.loss_BT
        if settings.entropy_weight:
            loss_BT = loss_BT - settings.entropy_weight * entropy_BT
        loss = self._aggregate(loss_BT, mask_BT, counted)
        total.add(loss, mask_BT, sampled_BT, token, entropy_BT, ratio.ratio_BT, kl_BT)
        return loss

    def _policy_loss(
        self, logprob_BT: Tensor, old_BT: Tensor, advantage_BT: Tensor, mask_BT: Tensor
    ) -> losses.TokenLoss:
        """Loss and diagnostics of each token by `update.loss`."""
        settings = self._settings
        clips = {"clip_low": settings.clip_low, "clip_high": settings.clip_high}
        if settings.loss == "supervised":
            return losses.supervised(logprob_BT, advantage_BT)
        if settings.loss == "gspo":
            return losses.gspo(logprob_BT, old_BT, advantage_BT, mask_BT, **clips)
        if settings.loss == "cispo":
            return losses.cispo(logprob_BT, old_BT, advantage_BT, clip_high=settings.clip_high)
        return losses.clipped_surrogate(logprob_BT, old_BT, advantage_BT, **clips, dual_clip=settings.dual_clip)

    def _aggregate(self, loss_BT: Tensor, mask_BT: Tensor, counted: Sequence[TrainingRollout]) -> Tensor:
        """Aggregate by `update.aggregate`. counted: rollouts of the whole mini-batch, which the denominator counts."""
        settings = self._settings
        if settings.aggregate == "sequence_mean":
            return aggregation.sequence_mean(loss_BT, mask_BT, len(counted))
        if settings.aggregate == "constant":
            return aggregation.constant_denominator(
                loss_BT, mask_BT, len(counted), max_tokens=settings.sampling.max_response_tokens
            )
        return aggregation.token_mean(loss_BT, mask_BT, sum(r.loss_tokens for r in counted))


def _advantages(batch: Sequence[TrainingRollout], like_BT: Tensor) -> Tensor:
    """The advantage of every token in `like_BT`'s shape: the rollout's, or the token's own where they differ."""
    import torch

    advantage_BT = torch.tensor([[r.advantage] for r in batch], device=like_BT.device).expand_as(like_BT)
    if all(r.token_advantages is None for r in batch):
        return advantage_BT
    own_BT = _padded([r.token_advantages or [] for r in batch], like_BT)
    differs_B1 = torch.tensor([[r.token_advantages is not None] for r in batch], device=like_BT.device)
    return torch.where(differs_B1, own_BT, advantage_BT)


def _padded(values: Sequence[Sequence[float]], like_BT: Tensor) -> Tensor:
    """Lists as rows of a float32 tensor of `like_BT`'s shape; 0 after the end of a list."""
    import torch

    padded_BT = torch.zeros(like_BT.shape, dtype=torch.float32)
    for row, value_T in enumerate(values):
        padded_BT[row, : len(value_T)] = torch.tensor(value_T)
    return padded_BT.to(like_BT.device)
