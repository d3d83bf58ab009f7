"""Analytic compute: floating-point operations that follow from counts of tokens alone, not from times."""

from __future__ import annotations


def compute(weights: int, *, sampled: int, prefilled: int, scored: int, trained: int) -> float:
    """2N (T_sampled + T_prefilled) + 2N T_scored + 6N T_trained, in FLOP.

    weights: N, every weight of the policy, embeddings counted once where input and output share them. A multiplication
    and an addition for every weight and token make 2N forward; the backward pass costs twice that. Left out: attention
    over the context, embeddings of novelty measures, the reference of a KL term, verification, evaluations.

    Example: N = 10, 5 tokens sampled after 3 that were read, 8 scored, 4 trained on: 160 + 160 + 240 = 560.
    Source: the estimate of Kaplan et al. (arXiv 2001.08361); which tokens count is our decision (docs/method.md 4).
    """
    return 2.0 * weights * (sampled + prefilled) + 2.0 * weights * scored + 6.0 * weights * trained
