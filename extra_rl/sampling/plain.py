"""The plain path of sampling: transformers' own `generate`, for models that the fast path does not compute.

Caches, masks and positions are those of the model family; only the draw is ours, so that a rollout's tokens follow from
its seed here too. A batch is static: rows that have ended are computed until the last one has ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from extra_rl.config.sections import SamplingConfig
from extra_rl.errors import ModelError
from extra_rl.models.attention import restore_attention
from extra_rl.sampling.base import Advance, Request, Sample, decoding_order, no_progress
from extra_rl.sampling.decode import RowStops, left_padded, new_rows
from extra_rl.sampling.draw import draw
from extra_rl.sampling.text import StopStrings, stop_rule

if TYPE_CHECKING:
    from torch import Tensor

    from extra_rl.models.protocol import CausalLM


class PlainDecoder:
    """Samples by `model.generate`.

    Args:
        model: the policy.
        eos_token_ids: ids that end a response.
        padding: whether contexts of different lengths share a batch, left-padded; False for families that this
            changes: then only rows of one length are decoded together.
        stops: of the tokenizer; needed for `config.stop`.
    """

    def __init__(
        self, model: CausalLM, eos_token_ids: Sequence[int], *, padding: bool = True, stops: StopStrings | None = None
    ) -> None:
        self._model, self._eos, self._padding, self._stops = model.eval(), sorted(eos_token_ids), padding, stops

    def sample(
        self, requests: Sequence[Request], config: SamplingConfig, advance: Advance = no_progress
    ) -> list[Sample]:
        """Return one sample per request, in the order given (see `Sampler`).

        Raises ModelError for a context of one token without padding.
        """
        if not self._padding and any(len(request.context) == 1 for request in requests):
            raise ModelError(
                f"{type(self._model).__name__} is sampled in rows of one length, where a context of one token is not "
                "possible: transformers takes it for a decoding step and continues from the state of an earlier call. "
                "Use longer prompts, or another model."
            )
        restore_attention(self._model)
        samples: dict[int, Sample] = {}
        for batch in self._batches(requests, config):
            made = self._decode([requests[i] for i in batch], config, advance)
            samples |= zip(batch, made, strict=True)
        return [samples[i] for i in range(len(requests))]

    def _batches(self, requests: Sequence[Request], config: SamplingConfig) -> Iterator[list[int]]:
        batch: list[int] = []
        for i in decoding_order(requests):
            other = batch and len(requests[i].context) != len(requests[batch[0]].context)
            if batch and (len(batch) == config.batch_rows or (other and not self._padding)):
                yield batch
                batch = []
            batch.append(i)
        if batch:
            yield batch

    def _decode(self, requests: Sequence[Request], config: SamplingConfig, advance: Advance) -> list[Sample]:
        import torch
        from transformers import GenerationConfig, LogitsProcessor, StoppingCriteria

        model, device = self._model, next(self._model.parameters()).device
        eos = torch.tensor(self._eos, dtype=torch.long, device=device)
        longest = max(request.max_tokens for request in requests)
        rows = new_rows(requests, 0, longest, device)
        rule = stop_rule(self._stops, config)
        stops = None if rule is None else RowStops(rule, requests)
        tokens_BL, valid_BL = left_padded([request.context for request in requests], device)

        class Draw(LogitsProcessor):  # type: ignore[misc]
            def __call__(self, _: Tensor, scores_BV: Tensor) -> Tensor:
                """Draw a token per row; all others get minus infinity, so that greedy `generate` takes ours."""
                token_B, logprob_B = draw(scores_BV.float(), rows.uniform(), config)
                advance(rows.append(token_B, logprob_B, eos, stops))
                return torch.full_like(scores_BV, -torch.inf).scatter_(1, token_B[:, None], 0.0)

        class AllEnded(StoppingCriteria):  # type: ignore[misc]
            def __call__(self, ids_BL: Tensor, *_: Any, **__: Any) -> Tensor:
                ended = not bool(rows.alive_B.any())
                return torch.full((ids_BL.shape[0],), ended, dtype=torch.bool, device=ids_BL.device)

        own, model.generation_config = model.generation_config, GenerationConfig()  # no settings of the checkpoint
        try:
            with torch.inference_mode():
                model.generate(
                    tokens_BL,
                    attention_mask=valid_BL.long(),
                    generation_config=GenerationConfig(do_sample=False, max_new_tokens=longest, pad_token_id=0),
                    logits_processor=[Draw()],
                    stopping_criteria=[AllEnded()],
                )
        finally:
            model.generation_config = own
        found = rows.finished(set(self._eos))
        return [found[i] for i in range(len(requests))]
