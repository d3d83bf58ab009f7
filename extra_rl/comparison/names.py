"""What the labels of policies stand for, and which arms are compared with which."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from extra_rl.errors import ConfigError

WARM_START = "warm_start"


class Policy(NamedTuple):
    """An evaluated policy. folder: as in the results; seed -1 and arm `warm_start` for what arms start from.

    number: which warm start it is; of an arm, 0.
    """

    folder: str
    regime: str
    arm: str
    seed: int
    number: int = 0


class Pair(NamedTuple):
    """A difference that is asked for: arm - base. named: before the run (`compare.comparisons`)."""

    arm: str
    base: str
    named: bool = True


def policy_of(label: str, regimes: Iterable[str]) -> Policy:
    """The policy of a label `warm_start`, `warm_start_<number>` or `<folder>/s<seed>`.

    With regimes a folder is `<regime>-<arm>`; regimes' names have no hyphen. ConfigError for another label.
    """
    folder, _, seed = label.partition("/s")
    if not seed:
        number = re.fullmatch(rf"{WARM_START}(?:_(\d+))?", folder)
        if number is None:
            raise ConfigError(f"evaluate:{label}: expected {WARM_START}, {WARM_START}_<number> or <arm>/s<seed>.")
        return Policy(folder, "", WARM_START, -1, int(number[1] or 0))
    regime, _, arm = folder.partition("-")
    if not seed.isdigit() or (regimes and (regime not in regimes or not arm)):
        raise ConfigError(f"evaluate:{label}: no arm and seed of this configuration; regimes: {', '.join(regimes)}.")
    return Policy(folder, regime, arm, int(seed)) if regimes else Policy(folder, "", folder, int(seed))


def named_pairs(comparisons: Sequence[str]) -> list[Pair]:
    """The pairs of texts `arm - base`. ValueError for another form, an arm against itself, or one named twice."""
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
    """ConfigError where a comparison names an arm that the configuration has not."""
    known = dict.fromkeys([*arms, WARM_START])
    for pair in named_pairs(comparisons):
        for name in (pair.arm, pair.base):
            if name not in known:
                raise ConfigError(
                    f"compare.comparisons: `{pair.arm} - {pair.base}`: there is no arm {name!r}; "
                    f"there are {', '.join(known)}."
                )


def all_pairs(named: Sequence[Pair], arms: Sequence[str]) -> list[Pair]:
    """The named pairs, then every other arm against the first, then every arm against where it started."""
    wanted = [(arm, base) for base in (*arms[:1], WARM_START) for arm in arms if arm != base]
    have = {(pair.arm, pair.base) for pair in named}
    return [*named, *(Pair(arm, base, False) for arm, base in wanted if (arm, base) not in have)]


def start_of(seeds: Sequence[int], warm_starts: Sequence[int]) -> Mapping[int, int]:
    """Seed -> the warm start that its arms begin with: the i-th seed has the i-th of them, round and round."""
    return {seed: warm_starts[place % len(warm_starts)] for place, seed in enumerate(seeds)}
