"""What the labels of policies stand for, and which arms are compared beyond those that the run names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from extra_rl.config.comparisons import WARM_START, Pair
from extra_rl.errors import ConfigError


class Policy(NamedTuple):
    """An evaluated policy. folder: as in the results; seed -1 and arm `warm_start` for what arms start from.

    number: which warm start it is; of an arm, 0.
    """

    folder: str
    regime: str
    arm: str
    seed: int
    number: int = 0


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


def all_pairs(named: Sequence[Pair], arms: Sequence[str]) -> list[Pair]:
    """The named pairs, then every other arm against the first, then every arm against where it started."""
    wanted = [(arm, base) for base in (*arms[:1], WARM_START) for arm in arms if arm != base]
    have = {(pair.arm, pair.base) for pair in named}
    return [*named, *(Pair(arm, base, False) for arm, base in wanted if (arm, base) not in have)]


def start_of(seeds: Sequence[int], warm_starts: Sequence[int]) -> Mapping[int, int]:
    """Seed -> the warm start that its arms begin with: the i-th seed has the i-th of them, round and round."""
    return {seed: warm_starts[place % len(warm_starts)] for place, seed in enumerate(seeds)}
