"""Prefixes of failed rollouts: where to cut, how to score, which to keep (docs/method.md, section 3).

A cut c keeps the tokens [0, c) of a response of T tokens; sampling goes on from token c. What is looked at is one
number a response token, in nats, at the sampling temperature: the policy's Shannon entropy, or its surprisal at the
token that was sampled, -ln p(token), for which the sampler's own logprobs will do (docs/decisions/0016). P counts the
candidate prefixes of one problem.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from typing import Literal, TypeVar, assert_never

import numpy as np
import numpy.typing as npt

from extra_rl.errors import ConfigError, ContractError, NumericalError

Floats = npt.NDArray[np.float64]
Item = TypeVar("Item")
CutRule = Literal["every_boundary", "before_peak_entropy", "before_peak_surprisal", "random", "none"]
RankRule = Literal["low_mean_entropy", "high_mean_entropy", "low_mean_surprisal", "random"]
BY_ENTROPY: tuple[RankRule, ...] = ("low_mean_entropy", "high_mean_entropy")
"""Rules that need the policy's entropies, which a sampler does not give."""


def candidate_cuts(
    boundary_T: npt.NDArray[np.bool_],
    *,
    first: float = 0.2,
    last: float = 0.8,
    min_tokens: int = 8,
    max_cuts: int = 15,
) -> tuple[list[int], bool]:
    """Ascending cuts c with first * T <= c <= last * T, and whether they are a fallback (no boundary there).

    boundary_T: True where a cut may be made AFTER this token. Boundaries are walked from the left; one
    nearer than `min_tokens` to the last cut taken is passed over. Of more than `max_cuts`, that many stay,
    evenly spread: the earliest would lie side by side in a long response. Where no boundary lies in the range
    the cuts are every `min_tokens` from its start, and the second value is True. The empty prefix and the
    whole response are never cuts, so a response of one token has none.

    Source: boundaries, R; range, spacing, limit and fallback, our decision (O). The released code takes any
    boundary, and the first, a 2-token "<think>\\n" of nearly zero entropy, always wins.
    Raises ConfigError for min_tokens or max_cuts below 1, or a range that is not 0 <= first <= last <= 1.
    """
    if min_tokens < 1 or max_cuts < 1 or not 0 <= first <= last <= 1:
        raise ConfigError(
            "cuts need min_tokens >= 1, max_cuts >= 1 and 0 <= first <= last <= 1, "
            f"not {min_tokens=}, {max_cuts=}, {first=}, {last=}"
        )
    length = len(boundary_T)
    # The small shift keeps a product such as 0.07 * 100 = 7.000000000000001 from losing its own whole number.
    start = max(1, math.ceil(first * length - 1e-9))
    stop = min(length - 1, math.floor(last * length + 1e-9))
    boundaries = [cut for cut in range(start, stop + 1) if boundary_T[cut - 1]]
    if not boundaries:
        return spread(range(start, stop + 1, min_tokens), max_cuts), True
    cuts: list[int] = []
    for cut in boundaries:
        if not cuts or cut - cuts[-1] >= min_tokens:
            cuts.append(cut)
    return spread(cuts, max_cuts), False


def spread(items: Sequence[Item], limit: int) -> list[Item]:
    """At most `limit` of the items, order kept: the middles of `limit` equal parts of the sequence."""
    if len(items) <= limit:
        return list(items)
    return [items[(2 * part + 1) * len(items) // (2 * limit)] for part in range(limit)]


def peak_cut(nats_T: npt.NDArray[np.floating], cuts: Sequence[int]) -> int | None:
    """The last cut that still leaves out the token of the most nats: max {c in cuts: c <= argmax_t H_t}.

    Of several equal maxima the first counts. None where every cut lies behind the peak, or there is no cut.
    Source: entropy: prototype, docs/tiny.md; surprisal: docs/decisions/0014 (O).
    """
    if not cuts:
        return None
    peak = int(np.argmax(nats_T))
    return max((cut for cut in cuts if cut <= peak), default=None)


def random_cut(cuts: Sequence[int], rng: np.random.Generator) -> int | None:
    """One of the cuts, each equally likely; None where there is none. The control for `peak_cut`."""
    return cuts[int(rng.integers(len(cuts)))] if cuts else None


def mean_score(nats_T: npt.NDArray[np.floating], cut: int) -> float:
    """(1 / c) * sum over t < c of H_t, in nats: the score of the prefix [0, c). Source: P, R; surprisal: O.

    Raises ContractError unless 1 <= cut <= T.
    """
    if not 1 <= cut <= len(nats_T):
        raise ContractError(f"cut {cut} is outside 1..{len(nats_T)}, the tokens that have a score")
    return float(np.mean(nats_T[:cut], dtype=np.float64))


def smooth_scores(
    scores_P: npt.NDArray[np.floating], embeddings_PD: npt.NDArray[np.floating], tau: float = 0.1
) -> tuple[Floats, Floats]:
    """s~ = W s with W_ij = softmax over j of cos(p_i, p_j) / tau, and the effective numbers of neighbours.

    Both (P,), float64; j runs over all prefixes of the problem, i itself included. The effective number is
    exp(-sum_j W_ij ln W_ij): from 1, no smoothing, to P, where W is uniform, every s~ the plain mean and the
    score erased (nearly parallel embeddings do that). Embeddings need not have unit norm.

    Source: smoothing and tau, P, R; the effective number, our decision (O).
    Raises ConfigError for tau <= 0, NumericalError for an embedding that is zero or not finite.
    """
    if tau <= 0:
        raise ConfigError(f"tau must be above 0, not {tau}")
    if len(scores_P) == 0:
        return np.zeros(0), np.zeros(0)
    embeddings = np.asarray(embeddings_PD, dtype=np.float64)
    norms_P1 = np.linalg.norm(embeddings, axis=1, keepdims=True)
    if not (np.isfinite(norms_P1) & (norms_P1 > 0)).all():
        raise NumericalError("an embedding of a prefix is zero or not finite, so it has no cosine; check the embedder")
    unit_PD = embeddings / norms_P1
    logits_PP = unit_PD @ unit_PD.T / tau
    logits_PP -= logits_PP.max(axis=1, keepdims=True)
    log_weights_PP = logits_PP - np.log(np.exp(logits_PP).sum(axis=1, keepdims=True))
    weights_PP = np.exp(log_weights_PP)
    neighbours_P = np.exp(-(weights_PP * log_weights_PP).sum(axis=1))
    return weights_PP @ np.asarray(scores_P, dtype=np.float64), neighbours_P


def rank_order(scores_P: npt.NDArray[np.floating], rule: RankRule, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """Indices of the prefixes, the first choice first, (P,); equal scores keep the order of their indices.

    rule: "low_mean_entropy" (R) | "high_mean_entropy" (how reviews of the paper read) | "low_mean_surprisal"
    (docs/decisions/0014, O) | "random" (control, the only rule that draws from `rng`).
    """
    match rule:
        case "low_mean_entropy" | "low_mean_surprisal":
            return np.argsort(scores_P, kind="stable")
        case "high_mean_entropy":
            return np.argsort(-scores_P, kind="stable")
        case "random":
            return rng.permutation(len(scores_P))
        case _:
            assert_never(rule)


def choose_distinct(order: Iterable[int], keys: Sequence[Hashable], count: int) -> list[int]:
    """The first `count` indices of `order` whose keys (a prefix's token tuple) differ from all taken before.

    Fewer where there are fewer distinct keys. Source: prototype, docs/tiny.md (O): two continuations of one text
    under two names would spend the budget on one prefix.
    """
    taken: dict[Hashable, int] = {}
    for index in order:
        taken.setdefault(keys[index], int(index))
    return list(taken.values())[:count]
