"""How many of the hard groups are served: by what rescues cost, measured against what fresh rollouts yield.

Source: our decision (docs/method.md 3).
"""

from __future__ import annotations

import math

RECENT = 0.75
"""Weight of an iteration's counts in the next one's: the last four iterations make up two thirds of them."""


def recent(former: float, now: float) -> float:
    """`now + RECENT * former`: a count over the last iterations, the older the less."""
    return now + RECENT * former


def served_share(
    useful: float,
    fresh_tokens: float,
    rescued: float,
    guided_tokens: float,
    *,
    start: float,
    least: float,
    prior: float,
) -> float:
    """Share of the hard groups to serve, `least` .. 1:

        (rescued / useful + prior * start) / (guided_tokens / fresh_tokens + prior)

    Without the prior this is (rescued / guided_tokens) / (useful / fresh_tokens): groups that a token of continuations
    rescues, over groups with a signal that a token of fresh rollouts finds; from 1 on, where a token does as much in
    either, all hard groups are served. The prior speaks for `start` as if `prior` times the fresh tokens had been spent
    on continuations. Fresh rollouts that find nothing: 1 as soon as anything is rescued. Nothing sampled: `start`.
    """
    if fresh_tokens <= 0:
        return max(least, start)
    if useful <= 0 < rescued:
        return 1.0
    worth = rescued / useful if useful else 0.0
    return min(1.0, max(least, (worth + prior * start) / (guided_tokens / fresh_tokens + prior)))


def served_groups(hard: int, share: float) -> int:
    """That share of the hard groups, rounded up; the small shift keeps 0.07 x 100 = 7.000000000000001 from being 8."""
    return min(hard, math.ceil(share * hard - 1e-9))
