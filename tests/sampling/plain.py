"""The simplest sampler: one request at a time, and the whole sequence read again for every token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from extra_rl.config.sections import SamplingConfig
from extra_rl.sampling.base import Advance, Request, Sample
from extra_rl.sampling.text import Decode


class PlainSampler:
    """Draws with numpy from the model's full softmax, without top-p and top-k. decode: for stop strings."""

    def __init__(self, model: Any, eos_token_ids: Sequence[int], decode: Decode = lambda ids: [""]) -> None:
        self._model, self._eos, self._decode = model, set(eos_token_ids), decode

    def sample(self, requests: Sequence[Request], config: SamplingConfig, advance: Advance) -> list[Sample]:
        samples = []
        for request in requests:
            samples.append(self._one(request, config))
            advance(1)
        return samples

    def _one(self, request: Request, config: SamplingConfig) -> Sample:
        random = np.random.default_rng(request.seed)
        tokens: list[int] = []
        logprobs: list[float] = []
        while len(tokens) < request.max_tokens:
            with torch.inference_mode():
                logits_V = self._model(torch.tensor([[*request.context, *tokens]])).logits[0, -1].double()
            logprob_V = torch.log_softmax(logits_V / config.temperature, -1).numpy()
            probability_V = np.exp(logprob_V)
            tokens.append(int(random.choice(len(probability_V), p=probability_V / probability_V.sum())))
            logprobs.append(float(logprob_V[tokens[-1]]))
            (text,) = self._decode([[*request.prefix, *tokens]])
            if tokens[-1] in self._eos or any(string in text for string in config.stop):
                return Sample(tokens, logprobs, "stop")
        return Sample(tokens, logprobs, "length")
