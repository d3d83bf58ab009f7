"""Scores of prefixes smoothed over similar prefixes of the same problem, by embeddings of their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from extra_rl.algorithms.prefixes import EMBEDDED_TOKENS, smooth_scores
from extra_rl.config.sections import ComputeConfig
from extra_rl.devices.acquire import acquire
from extra_rl.regeneration.candidates import Candidate

Smoothing = Literal["none", "policy", "sentence"]
Floats = npt.NDArray[np.float64]


def smoothed(
    candidates: Sequence[Candidate],
    scores_P: Floats,
    by: Smoothing,
    tau: float,
    initial: Path,
    compute: ComputeConfig,
) -> tuple[list[Candidate], Floats]:
    """The candidates with smoothed scores and effective numbers of neighbours, and these scores, (P,).

    Args:
        candidates: of one problem.
        scores_P: their scores.
        by: embedder; `none` changes nothing.
        tau: temperature of the weights.
        initial: manifest of the initial policy.
        compute: device and threads.
    """
    if by == "none":
        return list(candidates), scores_P
    smooth_P, neighbours_P = smooth_scores(scores_P, embeddings(candidates, by, initial, compute), tau)
    made = [c.smoothed(s, n) for c, s, n in zip(candidates, smooth_P.tolist(), neighbours_P.tolist(), strict=True)]
    return made, smooth_P


def embeddings(candidates: Sequence[Candidate], by: Smoothing, initial: Path, compute: ComputeConfig) -> np.ndarray:
    """Unit embeddings of the prefixes, (P, D). Arguments as in `smoothed`."""
    from extra_rl.models.embedding import policy_hidden_states, sentence_embeddings
    from extra_rl.models.policy import load_policy_model, load_tokenizer, resolve

    device = acquire(compute)
    tokens = [list(c.prefix_tokens) for c in candidates]
    if by == "policy":
        model = load_policy_model(initial, device=device)
        return policy_hidden_states(model, tokens, max_tokens=EMBEDDED_TOKENS)
    texts = load_tokenizer(resolve(initial)).batch_decode(tokens, skip_special_tokens=True)
    return sentence_embeddings(texts, device=device, threads=compute.threads)
