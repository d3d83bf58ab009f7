"""The seeded, endless stream of training problems that all arms of a seed read.

Levels are drawn by weight; within a level problems come in shuffled epochs, so none repeats before all were seen.
Source: our decision (docs/method.md asks for a seeded stream, not for how it is made).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from extra_rl.seeding import generator


def problem_stream(
    levels_P: Sequence[str], level_weights: Mapping[str, float], start: int, count: int, seed: int
) -> list[int]:
    """Indices into the problems (P) at the positions start, ..., start + count - 1 of the stream of `seed`.

    levels_P: level of each problem. level_weights: how often a level is drawn; empty: one shuffled pool of all.
    Position k is the same whatever start and count, so an iteration can be selected alone.
    """
    pools: dict[str, list[int]] = {}
    for index, name in enumerate(levels_P):
        pools.setdefault(name if level_weights else "", []).append(index)
    names = [name for name in (level_weights or [""]) if not level_weights or level_weights[name] > 0]
    weights = np.array([level_weights[name] if level_weights else 1.0 for name in names])
    drawn = generator(seed, "levels").choice(len(names), size=start + count, p=weights / weights.sum())
    order: list[int] = []
    for position in range(start, start + count):
        level = int(drawn[position])
        pool = pools[names[level]]
        epoch, place = divmod(int(np.count_nonzero(drawn[:position] == level)), len(pool))
        permutation = generator(seed, "epoch", names[level], epoch).permutation(len(pool))
        order.append(pool[int(permutation[place])])
    return order
