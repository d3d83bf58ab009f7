"""maj@k: the chance that the answer which most of k samples give is right (docs/evaluation.md).

P counts problems, N samples of each, S drawn orders, C answers. Source: Wang et al. 2022 (self-consistency,
arXiv 2203.11171) for the vote; averaging over subsets of the samples, and the tie rule, are our decision.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from extra_rl.errors import ContractError

NO_VOTE = -1
"""A sample in which no answer was found; where nobody votes, the majority is not right."""
RIGHT = 0
"""The answer that equals the gold; other answers are numbered from 1."""
ORDERS = 256
"""Random orders of the samples; their first k are the subsets of size k that are averaged over."""


def majority_at_each_k(
    votes_PN: npt.NDArray[np.integer], rng: np.random.Generator, orders: int = ORDERS
) -> npt.NDArray[np.float64]:
    """(P, N): column k - 1 is the share of the subsets of k samples whose most frequent answer is right.

    votes_PN: NO_VOTE, RIGHT, or the number of another answer. Of two answers with as many votes, the one that was
    sampled first wins. The subsets are the first k of at least `orders` orders: random ones and all their rotations, so
    that every sample is in as many of them as every other. k = 1, N - 1 and N are therefore exact. The orders are the
    same for every problem, so a problem's figures depend on its own samples alone.
    Raises ContractError for a table without samples or a vote below NO_VOTE.
    """
    problems, samples = votes_PN.shape
    if not samples or (problems and int(votes_PN.min()) < NO_VOTE):
        raise ContractError("votes need at least one sample a problem, and no number below -1")
    base_BN = np.argsort(rng.random((-(-orders // samples), samples)), axis=1)
    turns_NN = (np.arange(samples)[:, None] + np.arange(samples)) % samples
    order_SN = base_BN[:, turns_NN].reshape(-1, samples)
    share_PN = np.zeros((problems, samples))
    split_P = (votes_PN == RIGHT).any(1)  # elsewhere no subset has a right majority
    if split_P.any():
        share_PN[split_P] = _shares(votes_PN[split_P], order_SN)
    return share_PN


def _shares(votes_PN: npt.NDArray[np.integer], order_SN: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """One vote after the other in every order; only the answer that just got a vote can take the lead."""
    problems, samples = votes_PN.shape
    classes = int(votes_PN.max()) + 1
    cell_PS = np.arange(problems * len(order_SN)).reshape(problems, -1) * classes
    count_X = np.zeros(cell_PS.size * classes, dtype=np.int32)  # votes of each answer in each order
    first_X = np.full(count_X.shape, samples, dtype=np.int32)  # its earliest sample among them
    best_PS = np.zeros(cell_PS.shape, dtype=np.int32)  # votes of the leader; ties by the earliest sample
    leader_PS = np.full(cell_PS.shape, NO_VOTE, dtype=np.int32)
    share_PN = np.empty((problems, samples))
    for k in range(samples):
        sample_S = order_SN[:, k]
        vote_PS = votes_PN[:, sample_S]
        voted_PS = vote_PS != NO_VOTE
        at_PS = cell_PS + np.maximum(vote_PS, 0)
        count_PS = count_X[at_PS] + voted_PS
        first_PS = np.where(voted_PS, np.minimum(first_X[at_PS], sample_S), first_X[at_PS])
        count_X[at_PS], first_X[at_PS] = count_PS, first_PS
        rank_PS = np.where(voted_PS, count_PS * (samples + 1) + samples - first_PS, 0)
        leads_PS = rank_PS > best_PS
        best_PS = np.where(leads_PS, rank_PS, best_PS)
        leader_PS = np.where(leads_PS, vote_PS, leader_PS)
        share_PN[:, k] = (leader_PS == RIGHT).mean(axis=1)
    return share_PN
