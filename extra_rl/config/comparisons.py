"""The comparisons that are named before the run: texts `arm - base`, parsed into pairs of arms."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from extra_rl.config.mistakes import nearest
from extra_rl.errors import ConfigError

WARM_START = "warm_start"


class Pair(NamedTuple):
    """A difference arm - base. named: it was named before the run (`compare.comparisons`)."""

    arm: str
    base: str
    named: bool = True


def named_pairs(comparisons: Sequence[str]) -> list[Pair]:
    """Parse texts `arm - base`. ValueError for another form, an arm compared with itself, or a pair named twice."""
    pairs = []
    for text in comparisons:
        arm, minus, base = text.partition(" - ")
        pair = Pair(arm.strip(), base.strip())
        words = re.fullmatch(r"[A-Za-z0-9_-]+", pair.arm) and re.fullmatch(r"[A-Za-z0-9_-]+", pair.base)
        if not minus or not words or pair.arm == pair.base:
            raise ValueError(f"{text!r}: name two arms as `extra - grpo`, with a space on both sides of the minus")
        if pair in pairs:
            raise ValueError(f"{text!r} is named twice")
        pairs.append(pair)
    return pairs


def unknown_arms(comparisons: Sequence[str], arms: Iterable[str]) -> list[str]:
    """Return one reason for every comparison that names an arm which does not exist."""
    known = dict.fromkeys([*arms, WARM_START])
    return [
        f"`{pair.arm} - {pair.base}`: there is no arm {name!r}; there are {', '.join(known)}{nearest(name, known)}"
        for pair in named_pairs(comparisons)
        for name in (pair.arm, pair.base)
        if name not in known
    ]


def refuse_unknown(comparisons: Sequence[str], arms: Iterable[str]) -> None:
    """Raise ConfigError where a comparison names an arm that does not exist."""
    for reason in unknown_arms(comparisons, arms):
        raise ConfigError(f"compare.comparisons: {reason}.")
