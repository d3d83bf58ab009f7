"""The fast path of sampling: a decoding loop over a transformers model with keys and values that are written in place.

Contexts that are asked for several times are read once; rows that end leave the batch, and waiting requests take their
places; each rollout draws from its own counter-based generator, so that its tokens do not depend on its neighbours
beyond rounding. Masks are made by the model's own code, by way of transformers' registry of masks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from extra_rl.config.sections import SamplingConfig
from extra_rl.models.family import Head, backbone
from extra_rl.sampling.base import Request, Sample, decoding_order
from extra_rl.sampling.decode_cache import TRIM, ContextCache, DecodeCache, use_grouped_attention
from extra_rl.sampling.decode_rows import Rows, RowStops, new_rows
from extra_rl.sampling.draw import draw
from extra_rl.sampling.stop import StopRule, StopStrings, stop_rule

if TYPE_CHECKING:
    from torch import Tensor

    from extra_rl.models.protocol import CausalLM

COMPACT_BELOW = 0.85
"""The batch is rebuilt, without its finished rows and with new ones, once fewer than this share of it goes on.
Rebuilding at every end would copy the cache at every step, never rebuilding would keep computing for the dead."""

PREFILL_TOKENS = 32_768
"""Tokens of contexts that are read in one forward pass, padding included; bounds its memory."""
PREFILL_ENOUGH, PREFILL_PADDING = 2048, 0.1
"""A pass of so many tokens is ended by a context that would make a larger share of it padding: another pass costs less
then than computing the padding."""


class FastDecoder:
    """Samples from a causal language model of transformers, on the device where it lies.

    head: of the model (`models.family.read_head`). Whether a model can be computed so is measured before its use
    (`sampling.transformers`). eos_token_ids: what ends a response. stops: of the tokenizer; `config.stop` needs it.
    """

    def __init__(
        self, model: CausalLM, head: Head, eos_token_ids: Sequence[int], stops: StopStrings | None = None
    ) -> None:
        self._model, self._head = model.eval(), head
        self._eos, self._stops = sorted(eos_token_ids), stops

    def sample(
        self,
        requests: Sequence[Request],
        config: SamplingConfig,
        advance: Callable[[int], object] = lambda n: None,
    ) -> list[Sample]:
        """One sample a request, in the order given (see `Sampler`)."""
        import torch

        if not requests:
            return []
        rule = stop_rule(self._stops, config)
        use_grouped_attention(self._model)
        order = decoding_order(requests)
        batch = _Batch(self._model, self._head, [requests[i] for i in order], config, self._eos, rule)
        with torch.inference_mode():
            batch.run(advance)
        place = {i: n for n, i in enumerate(order)}
        return [batch.samples[place[i]] for i in range(len(requests))]


class _Batch:
    """Rows that are decoded together, and the queue of requests that are to join them."""

    def __init__(
        self,
        model: CausalLM,
        head: Head,
        queue: Sequence[Request],
        config: SamplingConfig,
        eos: Sequence[int],
        rule: StopRule | None,
    ) -> None:
        import torch

        self.samples: dict[int, Sample] = {}
        self._body, self._head, self._config, self._queue = backbone(model), head, config, queue
        self._device = next(model.parameters()).device
        self._eos_ids, self._eos = set(eos), torch.tensor(eos, dtype=torch.long, device=self._device)
        self._stops = None if rule is None else RowStops(rule, queue)
        self._next = 0  # of the queue
        self._longest_limit = max(request.max_tokens for request in queue)
        # A batch is as wide as its longest row that goes on, and less than TRIM of padding.
        longest = max(len(request.context) + request.max_tokens for request in queue)
        self._cache = DecodeCache(min(config.batch_rows, len(queue)), longest + TRIM)
        self._rows: Rows = new_rows([], 0, self._longest_limit, self._device)
        self._valid: Tensor | None = None

    def run(self, advance: Callable[[int], object]) -> None:
        """Samples until the queue is empty and every row has ended."""
        import torch

        logits_BV = self._admitted()
        while True:
            token_B, logprob_B = draw(logits_BV, self._rows.uniform(), self._config)
            advance(self._rows.append(token_B, logprob_B, self._eos, self._stops))
            alive = int(self._rows.alive_B.sum())
            rebuild = alive < COMPACT_BELOW * len(self._rows) or self._cache.full
            if rebuild:
                self._drop_finished()
            if not alive and self._next == len(self._queue):
                break
            parts = [self._decoded()] if alive else []
            if rebuild and self._next < len(self._queue):
                parts.append(self._admitted())
            logits_BV = torch.cat(parts) if len(parts) > 1 else parts[0]

    def _drop_finished(self) -> None:
        self.samples |= self._rows.finished(self._eos_ids)
        keep_A = self._rows.alive_B.nonzero().squeeze(1)
        self._rows = self._rows.take(keep_A)
        self._cache.select(keep_A, int(self._rows.length_B.max()) if len(keep_A) else 0)
        self._valid = self._padding()

    def _decoded(self) -> Tensor:
        """Logits after the last token of every row. (B, V)"""
        token_B1, position_B1 = self._rows.last()[:, None], self._rows.length_B[:, None]
        valid_BL = None if self._valid is None else self._valid[:, : self._cache.width + 1]
        logits_BV = self._forward(token_B1, position_B1, valid_BL, self._cache)
        self._rows.length_B = self._rows.length_B + 1
        return logits_BV

    def _admitted(self) -> Tensor:
        """Fills the free rows of the batch from the queue; logits after the contexts of the new ones."""
        import torch

        room = self._config.batch_rows - len(self._rows)
        taken = self._queue[self._next : self._next + room]
        rows = new_rows(taken, self._next, self._longest_limit, self._device)
        self._rows = self._rows.joined(rows) if len(self._rows) else rows
        self._next += len(taken)
        logits_BV = torch.cat([self._read(part) for part in _in_passes(taken)])
        self._valid = self._padding()
        return logits_BV

    def _read(self, requests: Sequence[Request]) -> Tensor:
        """Reads each distinct context once, left-padded, and gives its keys and values to all rows that share it."""
        import torch

        contexts = list(dict.fromkeys(request.context for request in requests))
        row_of = {context: i for i, context in enumerate(contexts)}
        width = max(map(len, contexts))
        tokens_CL = torch.zeros(len(contexts), width, dtype=torch.long)
        valid_CL = torch.zeros(len(contexts), width, dtype=torch.bool)
        for i, context in enumerate(contexts):
            tokens_CL[i, width - len(context) :] = torch.tensor(context)
            valid_CL[i, width - len(context) :] = True
        tokens_CL, valid_CL = tokens_CL.to(self._device), valid_CL.to(self._device)
        position_CL = (valid_CL.cumsum(1) - 1).clamp(min=0)
        cache = ContextCache()
        logits_CV = self._forward(tokens_CL, position_CL, valid_CL, cache)
        share_B = torch.tensor([row_of[request.context] for request in requests], device=self._device)
        self._cache.admit(cache, share_B)
        return logits_CV[share_B]

    def _padding(self) -> Tensor | None:
        """Which columns hold tokens, up to the width that the batch can grow to; None without padding. (B, capacity)

        Rows grow with the batch, so this holds until it is rebuilt.
        """
        import torch

        padding_B = self._cache.width - self._rows.length_B
        if not len(padding_B) or not int(padding_B.max()):
            return None
        return torch.arange(self._cache.capacity, device=self._device) >= padding_B[:, None]

    def _forward(self, tokens_BT: Tensor, position_BT: Tensor, valid_BL: Tensor | None, cache: Any) -> Tensor:
        """Logits after the last of `tokens_BT`, in float32. valid_BL: False on padding; None where there is none."""
        output = self._body(
            input_ids=tokens_BT,
            position_ids=position_BT,
            attention_mask=valid_BL,
            past_key_values=cache,
            use_cache=True,
        )
        return self._head.logits(output.last_hidden_state[:, -1])


def _in_passes(requests: Sequence[Request]) -> Iterator[Sequence[Request]]:
    """Cuts requests, equal contexts side by side, into runs whose distinct contexts are read in one forward pass."""
    start, contexts, width, tokens = 0, 0, 0, 0
    for i, request in enumerate(requests):
        length = len(request.context)
        if i > start and request.context == requests[i - 1].context:
            continue
        padded = (contexts + 1) * max(width, length)
        wasteful = padded > PREFILL_ENOUGH and padded - tokens - length > PREFILL_PADDING * padded
        if i > start and (padded > PREFILL_TOKENS or wasteful):
            yield requests[start:i]
            start, contexts, width, tokens = i, 0, 0, 0
        contexts, width, tokens = contexts + 1, max(width, length), tokens + length
    yield requests[start:]
