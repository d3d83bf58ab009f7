"""The sampler without a server: a plain decoding loop over a transformers model, the offline default.

Prompts that are asked for several times are read once; rows that end leave the batch; each rollout draws from its own
counter-based generator, so that its tokens do not depend on its neighbours beyond rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from extra_rl.sampling.base import Request, Sample, decoding_order
from extra_rl.sampling.decode_cache import DecodeCache, use_grouped_attention
from extra_rl.sections import SamplingConfig

if TYPE_CHECKING:
    import torch
    from torch import Tensor

COMPACT_BELOW = 0.85
"""The batch is rebuilt without its finished rows once fewer than this share of it goes on. Rebuilding at every end
would copy the cache at every step, never rebuilding would keep computing for the dead."""


class TransformersSampler:
    """Samples from a causal language model of transformers, on the device where it lies."""

    def __init__(self, model: torch.nn.Module, eos_token_ids: Sequence[int]) -> None:
        use_grouped_attention(model)
        self._model = model.eval()
        self._eos = sorted(eos_token_ids)

    def sample(
        self,
        requests: Sequence[Request],
        config: SamplingConfig,
        advance: Callable[[int], object] = lambda n: None,
    ) -> list[Sample]:
        """One sample a request, in the order given (see `Sampler`)."""
        order = decoding_order(requests)
        samples: dict[int, Sample] = {}
        for start in range(0, len(order), config.batch_rows):
            rows = order[start : start + config.batch_rows]
            batch = _Batch(self._model, [requests[i] for i in rows], config, self._eos)
            samples.update(zip(rows, batch.run(advance), strict=True))
        return [samples[i] for i in range(len(requests))]


class _Batch:
    """Rows that are decoded together, from one prefill to the last end."""

    def __init__(self, model: Any, requests: Sequence[Request], config: SamplingConfig, eos: Sequence[int]) -> None:
        import torch

        self._model, self._config = model, config
        self._device = next(model.parameters()).device
        self._eos = torch.tensor(eos, device=self._device)
        self._requests = requests
        self._limits_B = torch.tensor([request.max_tokens for request in requests], device=self._device)
        self._uniforms_BT = _uniforms(requests).to(self._device)
        self._tokens: list[list[int]] = [[] for _ in requests]
        self._logprobs: list[list[float]] = [[] for _ in requests]
        self._finish: list[Any] = ["length"] * len(requests)

    def run(self, advance: Callable[[int], object]) -> list[Sample]:
        import torch

        with torch.inference_mode():
            logits_BV, cache, valid_BL = self._prefill()
            rows_B = torch.arange(len(self._requests), device=self._device)  # requests still in the batch
            alive_B = torch.ones_like(rows_B, dtype=torch.bool)
            position_B = valid_BL.sum(1)
            step = 0
            while True:
                token_B, logprob_B = draw(logits_BV, self._uniforms_BT[rows_B, step], self._config)
                step += 1
                ended_B = torch.isin(token_B, self._eos)
                self._record(rows_B[alive_B], token_B[alive_B], logprob_B[alive_B], ended_B[alive_B])
                before = int(alive_B.sum())
                alive_B = alive_B & ~ended_B & (self._limits_B[rows_B] > step)
                alive = int(alive_B.sum())
                advance(before - alive)
                if not alive:
                    break
                if alive < COMPACT_BELOW * len(rows_B):
                    keep_A = alive_B.nonzero().squeeze(1)
                    cache.select(keep_A)
                    valid_BL, rows_B, alive_B = valid_BL[keep_A], rows_B[keep_A], alive_B[keep_A]
                    token_B, position_B = token_B[keep_A], position_B[keep_A]
                valid_BL = torch.cat([valid_BL, valid_BL.new_ones(len(rows_B), 1)], dim=1)
                logits_BV = self._forward(token_B[:, None], position_B[:, None], valid_BL, cache)
                position_B = position_B + 1
        return [
            Sample(tokens, logprobs, finish)
            for tokens, logprobs, finish in zip(self._tokens, self._logprobs, self._finish, strict=True)
        ]

    def _record(self, rows_B: Tensor, token_B: Tensor, logprob_B: Tensor, ended_B: Tensor) -> None:
        columns = (rows_B.tolist(), token_B.tolist(), logprob_B.tolist(), ended_B.tolist())
        for row, token, logprob, ended in zip(*columns, strict=True):
            self._tokens[row].append(token)
            self._logprobs[row].append(logprob)
            if ended:
                self._finish[row] = "stop"

    def _prefill(self) -> tuple[Tensor, Any, Tensor]:
        """Reads each distinct context once, left-padded, and hands its cache to all rows that share it."""
        import torch

        contexts = list(dict.fromkeys(request.context for request in self._requests))
        row_of = {context: i for i, context in enumerate(contexts)}
        width = max(map(len, contexts))
        tokens_CL = torch.zeros(len(contexts), width, dtype=torch.long)
        valid_CL = torch.zeros(len(contexts), width, dtype=torch.bool)
        for i, context in enumerate(contexts):
            tokens_CL[i, width - len(context) :] = torch.tensor(context)
            valid_CL[i, width - len(context) :] = True
        tokens_CL, valid_CL = tokens_CL.to(self._device), valid_CL.to(self._device)
        position_CL = (valid_CL.cumsum(1) - 1).clamp(min=0)
        cache = DecodeCache(width + int(self._limits_B.max()))
        logits_CV = self._forward(tokens_CL, position_CL, valid_CL, cache)
        share_B = torch.tensor([row_of[r.context] for r in self._requests], device=self._device)
        cache.select(share_B)
        return logits_CV[share_B], cache, valid_CL[share_B]

    def _forward(self, tokens_BT: Tensor, position_BT: Tensor, valid_BL: Tensor, cache: Any) -> Tensor:
        """Logits after the last of `tokens_BT`, in float32, for rows whose keys `valid_BL` marks as real."""
        import torch

        width, length = tokens_BT.shape[1], valid_BL.shape[1]
        mask_B1TL = valid_BL[:, None, None, :]
        if width > 1:
            causal_TL = torch.ones(width, length, dtype=torch.bool, device=self._device).tril(length - width)
            # A padded query attends to itself: an empty row of the softmax would be NaN.
            eye_TL = torch.eye(width, length, dtype=torch.bool, device=self._device)
            mask_B1TL = (mask_B1TL & causal_TL) | eye_TL
        output = self._model.model(
            input_ids=tokens_BT,
            position_ids=position_BT,
            attention_mask={"full_attention": mask_B1TL},
            past_key_values=cache,
            use_cache=True,
        )
        logits_BV: Tensor = self._model.lm_head(output.last_hidden_state[:, -1]).float()
        return logits_BV


def _uniforms(requests: Sequence[Request]) -> Tensor:
    """One uniform number in [0, 1) per request and step, from each request's own Philox stream. (B, max_tokens)"""
    import numpy as np
    import torch

    width = max(request.max_tokens for request in requests)
    rows = [np.random.Generator(np.random.Philox(key=request.seed)).random(width) for request in requests]
    return torch.from_numpy(np.stack(rows))


def draw(logits_BV: Tensor, uniform_B: Tensor, config: SamplingConfig) -> tuple[Tensor, Tensor]:
    """One token a row by inversion of the cumulative distribution, and its logprob.

    logits_BV: float32, before temperature. uniform_B: float64 in [0, 1). The logprob is that of the distribution
    sampled from: temperature, then top-k, then top-p, renormalised. Returns (B,) int64 and (B,) float32.
    """
    import torch

    scaled_BV = logits_BV / config.temperature
    if config.top_k or config.top_p < 1:
        scaled_BV = scaled_BV.masked_fill(~_kept(scaled_BV, config), float("-inf"))
    logprob_BV = torch.log_softmax(scaled_BV, dim=-1)
    cumulative_BV = logprob_BV.double().exp().cumsum(-1)
    target_B = uniform_B * cumulative_BV[:, -1]
    token_B = torch.searchsorted(cumulative_BV, target_B[:, None], right=True).squeeze(1)
    token_B = token_B.clamp(max=logits_BV.shape[-1] - 1)
    return token_B, logprob_BV.gather(1, token_B[:, None]).squeeze(1)


def _kept(scaled_BV: Tensor, config: SamplingConfig) -> Tensor:
    """Tokens that top-k and top-p leave in: the smallest set of the likeliest with mass of at least top_p."""
    import torch

    sorted_BV, index_BV = scaled_BV.sort(dim=-1, descending=True, stable=True)
    keep_BV = torch.ones_like(sorted_BV, dtype=torch.bool)
    if config.top_k:
        keep_BV[:, config.top_k :] = False
    if config.top_p < 1:
        probability_BV = torch.softmax(sorted_BV.masked_fill(~keep_BV, float("-inf")), dim=-1)
        keep_BV &= probability_BV.cumsum(-1) - probability_BV < config.top_p
    return torch.zeros_like(keep_BV).scatter(1, index_BV, keep_BV)
