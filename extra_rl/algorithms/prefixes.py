"""Prefixes of incorrect rollouts: cuts, scores, ranks and choice (docs/method.md, section 3).

A cut c keeps the tokens [0, c) of a response of T tokens; the continuation is sampled from token c on. Scores use one
number for each response token, in nats, at the sampling temperature: the policy's Shannon entropy, or the surprisal
-ln p(token) of the sampled token, by the policy or by the sampler (docs/decisions/0016).
Axes: T response tokens, P candidate prefixes of one problem, D embedding dimensions.
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
RankRule = Literal[
    "low_mean_entropy", "high_mean_entropy", "low_mean_surprisal", "calibrated", "calibrated_half", "random"
]
BY_ENTROPY: tuple[RankRule, ...] = ("low_mean_entropy", "high_mean_entropy")
"""Rank rules that need the policy's entropies, which a sampler does not return."""
BY_FIT: tuple[RankRule, ...] = ("calibrated", "calibrated_half")
"""Rank rules by the estimated share of correct continuations (`extra_rl.regeneration.branches`)."""
EMBEDDED_TOKENS = 512
"""Last tokens of a prefix that the policy embeds for smoothing."""


def candidate_cuts(
    boundary_T: npt.NDArray[np.bool_],
    *,
    first: float = 0.2,
    last: float = 0.8,
    min_tokens: int = 8,
    max_cuts: int = 15,
) -> tuple[list[int], bool]:
    """Ascending cuts c with first * T <= c <= last * T, and whether they are a fallback because no boundary is there.

    Boundaries are visited from the left, and one closer than `min_tokens` to the previous cut is skipped. If no
    boundary is in the range, the cuts are every `min_tokens` tokens from its start, and the second value is True. If
    there are more than `max_cuts`, that many remain, evenly spread; the first ones would be close together in a long
    response. The empty prefix and the whole response are never cuts, so a response of one token has none.

    Args:
        boundary_T: True where a cut is allowed AFTER this token.
        first, last: range of the cuts, as shares of the response.
        min_tokens: least distance between two cuts, in tokens.
        max_cuts: largest number of cuts.
    Raises ConfigError for min_tokens or max_cuts below 1, or unless 0 <= first <= last <= 1.
    Source: boundaries: R; range, spacing, limit and fallback: our decision (O). The released code accepts any boundary,
    and the first one, a 2-token "<think>\\n" of nearly zero entropy, always ranks first.
    """
    if min_tokens < 1 or max_cuts < 1 or not 0 <= first <= last <= 1:
        raise ConfigError(
            "cuts need min_tokens >= 1, max_cuts >= 1 and 0 <= first <= last <= 1, "
            f"not {min_tokens=}, {max_cuts=}, {first=}, {last=}"
        )
    length = len(boundary_T)
    # Without the small shift the ceiling of 0.07 * 100 = 7.000000000000001 would be 8.
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
    """At most `limit` of the items, in order: the middle item of each of `limit` equal parts of the sequence."""
    if len(items) <= limit:
        return list(items)
    return [items[(2 * part + 1) * len(items) // (2 * limit)] for part in range(limit)]


def peak_cut(nats_T: npt.NDArray[np.floating], cuts: Sequence[int]) -> int | None:
    """The last cut whose prefix excludes the token with the most nats: max {c in cuts: c <= argmax_t H_t}.

    Of several equal maxima the first counts. None where every cut is after the peak, or without cuts.
    Source: entropy: prototype, docs/tiny.md; surprisal: docs/decisions/0014 (O).
    """
    if not cuts:
        return None
    peak = int(np.argmax(nats_T))
    return max((cut for cut in cuts if cut <= peak), default=None)


def random_cut(cuts: Sequence[int], rng: np.random.Generator) -> int | None:
    """One of the cuts, with equal probability; None without cuts. The control for `peak_cut`."""
    return cuts[int(rng.integers(len(cuts)))] if cuts else None


def mean_score(nats_T: npt.NDArray[np.floating], cut: int) -> float:
    """(1 / c) * sum over t < c of H_t, in nats: the score of the prefix [0, c).

    Raises ContractError unless 1 <= cut <= T. Source: entropy: P, R; surprisal: O.
    """
    if not 1 <= cut <= len(nats_T):
        raise ContractError(f"cut {cut} is outside 1..{len(nats_T)}, the tokens that have a score")
    return float(np.mean(nats_T[:cut], dtype=np.float64))


def smooth_scores(
    scores_P: npt.NDArray[np.floating], embeddings_PD: npt.NDArray[np.floating], tau: float = 0.1
) -> tuple[Floats, Floats]:
    """Smoothed scores s~ = W s with W_ij = softmax over j of cos(p_i, p_j) / tau, and effective numbers of neighbours.

    Both are (P,), float64; j runs over all prefixes of the problem, including i. The effective number is
    exp(-sum_j W_ij ln W_ij). It is 1 without smoothing and P where W is uniform; then every s~ is the plain mean and
    the scores carry no information, as with nearly parallel embeddings. Embeddings may have any norm above 0.

    Raises ConfigError for tau <= 0, NumericalError for an embedding that is zero or not finite.
    Source: smoothing and tau: P, R; the effective number: our decision (O).
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
    # The softmax in logarithms, with the maximum subtracted: cos / tau is large for a small tau.
    logits_PP -= logits_PP.max(axis=1, keepdims=True)
    log_weights_PP = logits_PP - np.log(np.exp(logits_PP).sum(axis=1, keepdims=True))
    weights_PP = np.exp(log_weights_PP)
    neighbours_P = np.exp(-(weights_PP * log_weights_PP).sum(axis=1))
    return weights_PP @ np.asarray(scores_P, dtype=np.float64), neighbours_P


def rank_order(scores_P: npt.NDArray[np.floating], rule: RankRule, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """Indices of the prefixes in the order of choice, (P,); equal scores keep the order of their indices.

    rule: "low_mean_entropy" (R), "high_mean_entropy" (how reviews of the paper describe it), "low_mean_surprisal"
    (docs/decisions/0014, O), "random" (the control; the only rule that draws from `rng`), or "calibrated" and
    "calibrated_half" (O), for which a score says how much the prefix is preferred (`branches.with_estimates`).
    """
    match rule:
        case "low_mean_entropy" | "low_mean_surprisal":
            return np.argsort(scores_P, kind="stable")
        case "high_mean_entropy" | "calibrated" | "calibrated_half":
            return np.argsort(-scores_P, kind="stable")
        case "random":
            return rng.permutation(len(scores_P))
        case _:
            assert_never(rule)


def choose_distinct(order: Iterable[int], keys: Sequence[Hashable], count: int) -> list[int]:
    """The first `count` indices of `order` with distinct keys, such as the token tuples of prefixes; fewer if there are
    fewer distinct keys.

    Source: prototype, docs/tiny.md (O): equal prefixes of two rollouts would spend the budget on one text.
    """
    chosen: dict[Hashable, int] = {}
    for index in order:
        chosen.setdefault(keys[index], int(index))
    return list(chosen.values())[:count]
