"""Replay of prefixes whose continuations are correct about half of the time (docs/method.md, section 3).

A trajectory has m cuts b_1 < ... < b_m. Position k = 1 .. m stands for the prefix of b_k tokens, and position 0 for the
prompt alone. With a correct trajectory an earlier position is harder; with a failed one a later position is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from extra_rl.errors import ConfigError


class Move(NamedTuple):
    """The next position, None where the trajectory is finished, and the failures in a row at the easiest position."""

    position: int | None
    failures: int


def success_estimate(successes: int, tries: int) -> float:
    """p = (s + 1) / (n + 2): the mean of the posterior of a success rate under a uniform prior.

    Raises ConfigError unless 0 <= successes <= tries. Source: Laplace's rule of succession.
    """
    if not 0 <= successes <= tries:
        raise ConfigError(f"{successes} of {tries} tries cannot be successes")
    return (successes + 1) / (tries + 2)


def priority(successes: int, tries: int, group_size: int, remaining: float) -> float:
    """p (1 - p) / (G L): the variance of a reward per expected token of a group of G continuations.

    Args:
        successes, tries: at the current position.
        group_size: G.
        remaining: L, expected tokens of a continuation; less than one token counts as one.
    Source: our decision (O). The group is mixed most often at p = 1/2, and the gradient of its reward is largest there
    (Prefix Sampling, arXiv 2605.05112, holds its groups there, too).
    """
    p = success_estimate(successes, tries)
    return p * (1 - p) / (group_size * max(remaining, 1.0))


def next_position(
    position: int,
    allowed: range,
    share: float,
    *,
    harder: int,
    failures: int = 0,
    easy_share: float = 0.75,
    hard_share: float = 0.125,
    drop_after: int = 2,
) -> Move:
    """Where a trajectory is cut next, after a group of continuations of which `share` was correct.

    share >= easy_share: one position harder; finished where no harder one is allowed.
    share <= hard_share: one position easier; at the easiest one that is a failure, and `drop_after` failures in a row
    finish the trajectory. Otherwise it stays.

    Args:
        position: k of the group.
        allowed: consecutive positions.
        share: of the judged continuations, from 0 to 1.
        harder: -1 for a correct trajectory (a shorter prefix), +1 for a failed one.
        failures: in a row, before this group.
    Source: our decision (O), after backward curricula over correct trajectories (AdaBack, arXiv 2506.18110).
    """
    if share >= easy_share:
        move = position + harder
        return Move(move if move in allowed else None, 0)
    if share <= hard_share:
        move = position - harder
        if move in allowed:
            return Move(move, 0)
        return Move(position if failures + 1 < drop_after else None, failures + 1)
    return Move(position, 0)


def position_of_half(remaining: Sequence[float], allowed: Sequence[int], p: float, tokens: float) -> int:
    """The allowed position at which about half of the continuations of a correct trajectory should be correct.

    A continuation of L tokens with success rate p is taken to succeed with the same chance at each token, so one of L'
    tokens succeeds with `p ** (L' / L)`. Among equally near positions the harder (earlier) one is chosen.

    Args:
        remaining: tokens after the cut, by position 0 .. m.
        allowed: positions to choose from, at least one.
        p: success rate, above 0 and below 1.
        tokens: L, of the continuations that p belongs to.
    Source: our decision (O).
    """
    rate = math.log(p) / max(tokens, 1.0)
    return min(allowed, key=lambda k: (abs(math.exp(rate * remaining[k]) - 0.5), k))
