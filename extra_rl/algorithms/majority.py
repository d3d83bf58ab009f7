"""maj@k: the probability that the most frequent answer among k samples is correct (docs/evaluation.md).

Axes: P problems, N samples of each, S orders of the samples, X one cell for each problem, order and answer.
Source: the vote: self-consistency, Wang et al. 2022, arXiv 2203.11171; averaging over subsets of the samples and the
tie rule: our decision (O).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from extra_rl.errors import ContractError

NO_VOTE = -1
"""A sample without an answer. Where no sample has one, the majority is not correct."""
RIGHT = 0
"""The correct answer; other answers are numbered from 1."""
ORDERS = 256
"""Number of orders of the samples. The first k samples of each order are a subset of size k, and shares are averages
over these subsets."""


def majority_at_each_k(
    votes_PN: npt.NDArray[np.integer], rng: np.random.Generator, orders: int = ORDERS
) -> npt.NDArray[np.float64]:
    """Shares (P, N): column k - 1 is the share of the subsets of k samples whose most frequent answer is correct.

    Of two answers with equal votes, the one with the earliest sample wins. The subsets are the first k samples of at
    least `orders` orders: random orders and all their rotations, so that every sample is in equally many subsets. k =
    1, N - 1 and N are therefore exact. All problems have the same orders, so a problem's shares depend on its own
    samples only.

    votes_PN: NO_VOTE, RIGHT, or the number of another answer. rng: draws the orders.
    Raises ContractError for a table without samples or a vote below NO_VOTE.
    """
    problems, samples = votes_PN.shape
    if not samples or (problems and int(votes_PN.min()) < NO_VOTE):
        raise ContractError("votes need at least one sample a problem, and no number below -1")
    base_BN = np.argsort(rng.random((-(-orders // samples), samples)), axis=1)
    rotations_NN = (np.arange(samples)[:, None] + np.arange(samples)) % samples
    order_SN = base_BN[:, rotations_NN].reshape(-1, samples)
    share_PN = np.zeros((problems, samples))
    solved_P = (votes_PN == RIGHT).any(1)  # elsewhere no subset has a correct majority
    if solved_P.any():
        share_PN[solved_P] = _shares(votes_PN[solved_P], order_SN)
    return share_PN


def _shares(votes_PN: npt.NDArray[np.integer], order_SN: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """Counts the votes of every order one sample at a time; only the answer that receives a vote can take the lead."""
    problems, samples = votes_PN.shape
    classes = int(votes_PN.max()) + 1
    cell_PS = np.arange(problems * len(order_SN)).reshape(problems, -1) * classes
    count_X = np.zeros(cell_PS.size * classes, dtype=np.int32)  # votes for each answer in each order so far
    first_X = np.full(count_X.shape, samples, dtype=np.int32)  # the answer's earliest sample among them
    best_PS = np.zeros(cell_PS.shape, dtype=np.int32)  # rank of the leading answer
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
        # Ranks order answers by votes, then by the earliest sample: N + 1 exceeds every difference of sample numbers.
        rank_PS = np.where(voted_PS, count_PS * (samples + 1) + samples - first_PS, 0)
        leads_PS = rank_PS > best_PS
        best_PS = np.where(leads_PS, rank_PS, best_PS)
        leader_PS = np.where(leads_PS, vote_PS, leader_PS)
        share_PN[:, k] = (leader_PS == RIGHT).mean(axis=1)
    return share_PN
