"""The fast path of sampling: a decoding loop over a transformers model, with keys and values written in place.

A context that several requests share is read once. Rows that end leave the batch, and waiting requests take their
places. Each rollout draws from a separate counter-based generator, so that its tokens do not depend on its neighbours
beyond rounding. Masks come from the model's own code, through transformers' registry of masks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from extra_rl.config.sections import SamplingConfig
from extra_rl.models.family import Head, backbone
from extra_rl.sampling.base import Advance, FinishReason, Request, Sample, decoding_order, longest_of, no_progress
from extra_rl.sampling.decode_cache import TRIM, ContextCache, DecodeCache, use_grouped_attention
from extra_rl.sampling.draw import draw
from extra_rl.sampling.text import StopRule, StopStrings, stop_rule

if TYPE_CHECKING:
    from torch import Tensor

    from extra_rl.models.protocol import CausalLM

COMPACT_BELOW = 0.85
"""The batch is rebuilt, without its finished rows and with new ones, once fewer than this share of its rows is alive.
Rebuilding at every end would copy the cache at every step; never rebuilding would keep computing finished rows."""

PREFILL_TOKENS = 32_768
"""Tokens of contexts that are read in one forward pass, padding included; bounds its memory."""
PREFILL_ENOUGH, PREFILL_PADDING = 2048, 0.1
"""In a pass of more than PREFILL_ENOUGH tokens, a context that would raise the share of padding above PREFILL_PADDING
starts a new pass: another pass then costs less than computing the padding."""


class FastDecoder:
    """Samples from a causal language model of transformers, on its device.

    `sampling.transformers` measures beforehand whether a model can be computed in this way.

    Args:
        model: the policy.
        head: of the model (`models.family.read_head`).
        eos_token_ids: ids that end a response.
        stops: of the tokenizer; needed for `config.stop`.
    """

    def __init__(
        self, model: CausalLM, head: Head, eos_token_ids: Sequence[int], stops: StopStrings | None = None
    ) -> None:
        self._model, self._head = model.eval(), head
        self._eos, self._stops = sorted(eos_token_ids), stops

    def sample(
        self, requests: Sequence[Request], config: SamplingConfig, advance: Advance = no_progress
    ) -> list[Sample]:
        """Return one sample per request, in the order given (see `Sampler`)."""
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
    """The rows that are decoded together, and the queue of requests that join them as rows end."""

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
        # A batch is as wide as its longest row that is alive, plus less than TRIM columns of padding.
        self._cache = DecodeCache(min(config.batch_rows, len(queue)), longest_of(queue) + TRIM)
        self._rows: Rows = new_rows([], 0, self._longest_limit, self._device)
        self._valid: Tensor | None = None

    def run(self, advance: Advance) -> None:
        """Sample until the queue is empty and every row has ended."""
        import torch

        logits_BV = self._admitted()
        while True:
            token_B, logprob_B = draw(logits_BV, self._rows.uniform(), self._config)
            advance(self._rows.append(token_B, logprob_B, self._eos, self._stops))
            alive = int(self._rows.alive_B.sum())
            # A full cache is rebuilt too: finished long rows may hold the columns that the others need.
            rebuild = alive < COMPACT_BELOW * len(self._rows) or self._cache.full
            if rebuild:
                self._drop_finished()
            if not alive and self._next == len(self._queue):
                break
            # The rows that remain decode their last token; new rows read their contexts. Both then draw together.
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
        """Logits (B, V) after the last token of every row."""
        token_B1, position_B1 = self._rows.last()[:, None], self._rows.length_B[:, None]
        valid_BL = None if self._valid is None else self._valid[:, : self._cache.width + 1]
        logits_BV = self._forward(token_B1, position_B1, valid_BL, self._cache)
        self._rows.length_B = self._rows.length_B + 1
        return logits_BV

    def _admitted(self) -> Tensor:
        """Fill the free rows of the batch from the queue; logits (B, V) after the contexts of the new rows."""
        import torch

        free = self._config.batch_rows - len(self._rows)
        taken = self._queue[self._next : self._next + free]
        rows = new_rows(taken, self._next, self._longest_limit, self._device)
        self._rows = self._rows.joined(rows) if len(self._rows) else rows
        self._next += len(taken)
        logits_BV = torch.cat([self._read(part) for part in _in_passes(taken)])
        self._valid = self._padding()
        return logits_BV

    def _read(self, requests: Sequence[Request]) -> Tensor:
        """Read each distinct context once and copy its keys and values to all rows that share it; logits (B, V)."""
        import torch

        contexts = list(dict.fromkeys(request.context for request in requests))
        row_of = {context: i for i, context in enumerate(contexts)}
        tokens_CL, valid_CL = left_padded(contexts, self._device)
        position_CL = (valid_CL.cumsum(1) - 1).clamp(min=0)  # positions count tokens, not padding
        cache = ContextCache()
        logits_CV = self._forward(tokens_CL, position_CL, valid_CL, cache)
        share_B = torch.tensor([row_of[request.context] for request in requests], device=self._device)
        self._cache.admit(cache, share_B)
        return logits_CV[share_B]

    def _padding(self) -> Tensor | None:
        """Which columns contain tokens, (B, capacity) bool; None without padding.

        All rows grow by a column per step, so this stays valid until the batch is rebuilt.
        """
        import torch

        padding_B = self._cache.width - self._rows.length_B
        if not len(padding_B) or not int(padding_B.max()):
            return None
        return torch.arange(self._cache.capacity, device=self._device) >= padding_B[:, None]

    def _forward(self, tokens_BT: Tensor, position_BT: Tensor, valid_BL: Tensor | None, cache: Any) -> Tensor:
        """Logits (B, V) after the last of `tokens_BT`, float32. valid_BL: False on padding; None without padding."""
        output = self._body(
            input_ids=tokens_BT,
            position_ids=position_BT,
            attention_mask=valid_BL,
            past_key_values=cache,
            use_cache=True,
        )
        return self._head.logits(output.last_hidden_state[:, -1])


@dataclass
class Rows:
    """One entry per row of the batch; T is one more than the largest limit, where finished rows write."""

    request_B: Tensor  # index of the row's request
    limit_B: Tensor  # tokens that may be sampled
    length_B: Tensor  # tokens read so far: context and sampled tokens, without the last
    sampled_B: Tensor  # tokens sampled so far
    prefix_B: Tensor  # tokens of the context that belong to the response
    alive_B: Tensor  # bool: not ended
    stopped_B: Tensor  # bool: ended by a stop string
    uniform_BT: Tensor  # float64 in [0, 1), from the request's own stream, one per token
    tokens_BT: Tensor
    logprobs_BT: Tensor

    def __len__(self) -> int:
        return len(self.request_B)

    def take(self, keep_A: Tensor) -> Rows:
        """Return the rows of these indices."""
        return Rows(*(getattr(self, field.name)[keep_A] for field in fields(self)))

    def joined(self, other: Rows) -> Rows:
        """Return these rows, then the others."""
        import torch

        return Rows(*(torch.cat([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)))

    def uniform(self) -> Tensor:
        """Return the number (B,) that each row's next token is drawn with."""
        return self.uniform_BT.gather(1, self.sampled_B[:, None]).squeeze(1)

    def last(self) -> Tensor:
        """Return the token (B,) that each row sampled last."""
        return self.tokens_BT.gather(1, (self.sampled_B - 1)[:, None]).squeeze(1)

    def append(self, token_B: Tensor, logprob_B: Tensor, eos: Tensor, stops: RowStops | None = None) -> int:
        """Append one token to every row that is alive; return the number of rows that end by it."""
        import torch

        # Finished rows write too, after their last token, where nothing is read: cheaper than selecting rows.
        self.tokens_BT.scatter_(1, self.sampled_B[:, None], token_B[:, None])
        self.logprobs_BT.scatter_(1, self.sampled_B[:, None], logprob_B[:, None])
        self.sampled_B = self.sampled_B + self.alive_B
        continues_B = self.alive_B & ~torch.isin(token_B, eos) & (self.sampled_B < self.limit_B)
        if stops is not None:
            self.stopped_B = self.stopped_B | stops.stopped(self, token_B)
            continues_B = continues_B & ~self.stopped_B
        ended = int((self.alive_B ^ continues_B).sum())
        self.alive_B = continues_B
        return ended

    def finished(self, eos: set[int]) -> dict[int, Sample]:
        """Return the samples of the rows that have ended, by index of their request."""
        done = self.take((~self.alive_B).nonzero().squeeze(1))
        found: dict[int, Sample] = {}
        columns: Any = (done.request_B, done.sampled_B, done.stopped_B, done.tokens_BT, done.logprobs_BT)
        for request, sampled, stopped, tokens, logprobs in zip(*(column.cpu() for column in columns), strict=True):
            ids = tokens[:sampled].tolist()
            reason: FinishReason = "stop" if stopped or ids[-1] in eos else "length"
            found[int(request)] = Sample(ids, logprobs[:sampled].tolist(), reason)
        return found


@dataclass(frozen=True)
class RowStops:
    """Ends rows by stop strings. requests: the requests that `Rows.request_B` counts."""

    rule: StopRule
    requests: Sequence[Request]

    def stopped(self, rows: Rows, token_B: Tensor) -> Tensor:
        """Return which living rows end by a stop string with `token_B`, their last token; (B,) bool.

        Only rows that drew a token that can complete a stop string are decoded.
        """
        import torch

        columns = (rows.alive_B, token_B, rows.sampled_B, rows.prefix_B)
        drawn = enumerate(zip(*(column.tolist() for column in columns), strict=True))
        places = [row for row, (alive, *last) in drawn if alive and self.rule.may_end(*last)]
        found_B = torch.zeros_like(rows.alive_B)
        if places:
            contained = self.rule.contain([self._response(rows, row) for row in places])
            found_B[places] = torch.tensor(contained, device=found_B.device)
        return found_B

    def _response(self, rows: Rows, row: int) -> list[int]:
        sampled: list[int] = rows.tokens_BT[row, : rows.sampled_B[row]].tolist()
        return [*self.requests[int(rows.request_B[row])].prefix, *sampled]


def new_rows(requests: Sequence[Request], first: int, longest: int, device: Any) -> Rows:
    """Return rows that have read their contexts and sampled nothing.

    Args:
        requests: one per row.
        first: index of the first request.
        longest: the largest limit of all rows that will be joined, which sets T.
        device: of the tensors.
    """
    import numpy as np
    import torch

    uniform_BT = np.zeros((len(requests), longest + 1))
    for row, request in zip(uniform_BT, requests, strict=True):
        row[: request.max_tokens] = np.random.Generator(np.random.Philox(key=request.seed)).random(request.max_tokens)
    return Rows(
        request_B=torch.arange(first, first + len(requests), device=device),
        limit_B=torch.tensor([request.max_tokens for request in requests], device=device),
        length_B=torch.tensor([len(request.context) for request in requests], device=device),
        sampled_B=torch.zeros(len(requests), dtype=torch.long, device=device),
        prefix_B=torch.tensor([request.prefix_length for request in requests], device=device),
        stopped_B=torch.zeros(len(requests), dtype=torch.bool, device=device),
        alive_B=torch.ones(len(requests), dtype=torch.bool, device=device),
        uniform_BT=torch.from_numpy(uniform_BT).to(device),
        tokens_BT=torch.zeros(len(requests), longest + 1, dtype=torch.long, device=device),
        logprobs_BT=torch.zeros(len(requests), longest + 1, device=device),
    )


def left_padded(contexts: Sequence[Sequence[int]], device: Any) -> tuple[Tensor, Tensor]:
    """Return tokens_CL (int64, 0 on padding) and valid_CL (bool): the contexts, aligned at their ends."""
    import torch

    width = max(map(len, contexts))
    tokens_CL = torch.zeros(len(contexts), width, dtype=torch.long)
    valid_CL = torch.zeros(len(contexts), width, dtype=torch.bool)
    for row, context in enumerate(contexts):
        tokens_CL[row, width - len(context) :] = torch.tensor(context)
        valid_CL[row, width - len(context) :] = True
    return tokens_CL.to(device), valid_CL.to(device)


def _in_passes(requests: Sequence[Request]) -> Iterator[Sequence[Request]]:
    """Cut requests into runs whose distinct contexts are read in one forward pass; equal contexts are neighbours."""
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
