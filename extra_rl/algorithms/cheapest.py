"""The cheapest way to a useful group: fresh problems, more rollouts of a problem, or branches (docs/method.md 3).

Axes: N groups, C chosen prefixes of one problem.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from extra_rl.errors import ContractError

Action = Literal["branch", "resample", "none"]
STEPS = 500
"""Steps of the fit of a Beta distribution. Where pass rates differ it has converged by then; where they hardly differ
the likelihood is flat, and the steps end at a finite weight a + b. Source: our decision (O)."""
PRIOR_WEIGHT = 2.0
"""a + b of Beta(1, 1), at which the fit begins."""


class Beta(NamedTuple):
    """A Beta distribution of pass rates."""

    a: float
    b: float


def fit_beta(right_N: npt.NDArray[np.integer], judged_N: npt.NDArray[np.integer]) -> Beta:
    """The Beta distribution of pass rates that makes the results of groups most likely.

    It maximises sum_n ln B(a + s_n, b + n_n - s_n) / B(a, b) by `STEPS` fixed-point steps
    a <- a [sum_n sum_{j<s_n} 1 / (a + j)] / [sum_n sum_{j<n_n} 1 / (a + b + j)], and b likewise with the failures. No
    step lowers the likelihood. The likelihood does not depend on when a group was ended, so half groups do not bias it;
    moments would be biased.

    The steps begin at the weight 2 with the mean (sum s + 1) / (sum n + 2). That distribution is also the result
    without a success or without a failure, where the maximum is not inside; without a rollout it is Beta(1, 1).

    Args:
        right_N, judged_N: s and n, 0 <= s <= n.
    Raises ContractError for counts that break this rule.
    Source: maximum likelihood: Minka, "Estimating a Dirichlet distribution" (2000), equation 55, for two categories.
    """
    right, judged = np.asarray(right_N, np.int64), np.asarray(judged_N, np.int64)
    if not ((right >= 0) & (right <= judged)).all():
        raise ContractError("a group cannot have more correct than judged rollouts")
    mean = (int(right.sum()) + 1) / (int(judged.sum()) + 2)
    a, b = PRIOR_WEIGHT * mean, PRIOR_WEIGHT * (1 - mean)
    if right.sum() in (0, judged.sum()):
        return Beta(a, b)
    # reached[j]: groups with more than j of them, so that sum_n sum_{j<s_n} 1 / (a + j) = sum_j reached[j] / (a + j)
    successes, failures, tries = (_reached(counts) for counts in (right, judged - right, judged))
    for _ in range(STEPS):
        both = _harmonic(tries, a + b)
        a, b = a * _harmonic(successes, a) / both, b * _harmonic(failures, b) / both
    return Beta(a, b)


def _reached(counts_N: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """How many counts exceed 0, 1, 2, ..."""
    return np.array([(counts_N > j).sum() for j in range(int(counts_N.max()))], np.float64)


def _harmonic(reached: npt.NDArray[np.float64], start: float) -> float:
    return float((reached / (start + np.arange(len(reached)))).sum())


def useful_by_resampling(prior: Beta, right: int, judged: int, count: int, *, separate: bool) -> float:
    """The probability that m more rollouts of a problem give a useful group, by its results so far.

    At least one is correct:                   1 - prod_{j<m} (b + n - s + j) / (a + b + n + j)
    minus, if they form a separate group, all: prod_{j<m} (a + s + j) / (a + b + n + j)

    Args:
        prior: a, b.
        right, judged: s and n of the problem's group.
        count: m.
        separate: whether the rollouts form their own group, in which their rewards must differ. Otherwise they join a
            group without a correct rollout.
    Source: the hit utility of HORA (arXiv 2605.07114), there with a uniform prior. Separate groups: our decision (O).
    """
    a, b = prior.a + right, prior.b + judged - right
    none = math.prod((b + j) / (a + b + j) for j in range(count))
    every = math.prod((a + j) / (a + b + j) for j in range(count)) if separate else 0.0
    return max(0.0, 1 - none - every)


def useful_by_branching(q_C: Sequence[float], continuations: int, *, separate: bool) -> float:
    """The probability that continuations of prefixes give a useful group: 1 - prod_c (1 - q_c)^n_c, or, if they form a
    separate group, minus prod_c q_c^n_c.

    It takes continuations as independent. Those of one problem are not, so it is an upper estimate.

    Args:
        q_C: estimated probability that a continuation of the prefix is correct.
        continuations: n_c, of each prefix.
        separate: as in `useful_by_resampling`.
    Source: our decision (O).
    """
    none = math.prod((1 - q) ** continuations for q in q_C)
    every = math.prod(q**continuations for q in q_C) if separate else 0.0
    return max(0.0, 1 - none - every)


def cheapest(branch: float | None, resample: float | None, price: float) -> Action:
    """The action with most useful groups per token; `none` where neither has any, or both are below the price.

    Tokens that are not spent on a hard group buy fresh problems later, so the price is what those give per token.
    Branches come first where both are equal.

    Args:
        branch, resample: useful groups per token; None: not possible.
        price: those of fresh problems.
    Source: our decision (O). Knapsack RL (arXiv 2509.25849), HORA (2605.07114) and Reinforce-Ada (2510.04996) divide
    rollouts among problems; the branch as a further item and the price are ours.
    """
    best = max(branch or 0.0, resample or 0.0)
    if best == 0 or best < price:
        return "none"
    return "branch" if branch == best else "resample"
