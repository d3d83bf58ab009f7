"""The comparisons that are named before the run: texts `arm - base`, parsed into pairs of arms."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

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


def refuse_unknown(comparisons: Sequence[str], arms: Iterable[str]) -> None:
    """Raise ConfigError where a comparison names an arm that is not in the configuration."""
    known = dict.fromkeys([*arms, WARM_START])
    for pair in named_pairs(comparisons):
        for name in (pair.arm, pair.base):
            if name not in known:
                raise ConfigError(
                    f"compare.comparisons: `{pair.arm} - {pair.base}`: there is no arm {name!r}; "
                    f"there are {', '.join(known)}."
                )
