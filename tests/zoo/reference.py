"""References that share no code with the probe: the model's forward pass over one sequence, without a cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from extra_rl.sampling.base import Request, Sample
from extra_rl.scoring.batches import TokenSequence
from tests.zoo.families import VOCABULARY

CLOSE = 1e-4
"""Tolerance in nats for these models in float32. Measured: below 2e-5."""


def token_ids(length: int, seed: int) -> tuple[int, ...]:
    """Random token ids without the special ones."""
    return tuple(np.random.default_rng(seed).integers(3, VOCABULARY, length).tolist())


def requests() -> list[Request]:
    """Ragged prompts around a window of 8, two of them twice, with different limits: rows end and are replaced."""
    long, short, other = token_ids(20, 1), token_ids(7, 2), token_ids(12, 3)
    contexts = [long, short, long, other, short, token_ids(1, 4), token_ids(9, 5)]
    return [Request(context, limit, 40 + i) for i, (context, limit) in enumerate(zip(contexts, LIMITS, strict=True))]


LIMITS = (6, 9, 3, 5, 2, 4, 7)


def sequences() -> list[TokenSequence]:
    """Ragged sequences; three begin with the same prompt and two of those with the same response."""
    prompt, response = token_ids(20, 6), token_ids(9, 7)
    return [
        TokenSequence(prompt, response),
        TokenSequence(token_ids(7, 8), token_ids(4, 9)),
        TokenSequence(prompt, response[:5] + token_ids(3, 10)),
        TokenSequence(prompt, token_ids(6, 11)),
        TokenSequence(token_ids(1, 12), token_ids(11, 13)),
    ]


def log_probabilities(model: Any, tokens: Sequence[int], temperature: float) -> torch.Tensor:
    """ln softmax(logits / temperature) after every token. (L, V), float64 from the logits on; differentiable."""
    logits_LV = model(torch.tensor([list(tokens)])).logits[0].double()
    return torch.log_softmax(logits_LV / temperature, dim=-1)


def statistics(model: Any, sequence: TokenSequence, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Logprob and entropy of each response token."""
    start = len(sequence.prompt)
    log_p_TV = log_probabilities(model, sequence.tokens, temperature)[start - 1 : -1]
    logprob_T = log_p_TV[range(len(sequence.response)), list(sequence.response)]
    return logprob_T, -(log_p_TV.exp() * log_p_TV).sum(-1)


def assert_sampled_by(model: Any, request: Request, sample: Sample, temperature: float) -> None:
    """The sample's logprobs are the model's own; its tokens are those that the request's random numbers draw."""
    with torch.inference_mode():
        log_p_LV = log_probabilities(model, [*request.context, *sample.tokens], temperature).numpy()
    log_p_TV = log_p_LV[len(request.context) - 1 : -1]
    own = log_p_TV[np.arange(len(sample.tokens)), sample.tokens]
    np.testing.assert_allclose(sample.logprobs, own, rtol=0, atol=CLOSE)
    uniform = np.random.Generator(np.random.Philox(key=request.seed)).random(len(sample.tokens))
    for token, u, cumulative_V in zip(sample.tokens, uniform, np.exp(log_p_TV).cumsum(-1), strict=True):
        below = cumulative_V[token - 1] if token else 0.0
        assert below - CLOSE <= u <= cumulative_V[token] + CLOSE  # a draw at a boundary may go either way


def assert_same_tokens(found: Sequence[Sample], expected: Sequence[Sample], model: Any, temperature: float) -> None:
    """Equal tokens, request by request; where they differ, the draw is within 1e-5 of the boundary of two tokens."""
    for request, one, other in zip(requests(), found, expected, strict=True):
        if one.tokens == other.tokens:
            continue
        at = next(i for i, (a, b) in enumerate(zip(one.tokens, other.tokens, strict=False)) if a != b)
        with torch.inference_mode():
            log_p_V = log_probabilities(model, [*request.context, *one.tokens[:at]], temperature)[-1].numpy()
        u = np.random.Generator(np.random.Philox(key=request.seed)).random(at + 1)[at]
        assert np.abs(np.exp(log_p_V).cumsum() - u).min() < 1e-5, (request, one.tokens, other.tokens)
