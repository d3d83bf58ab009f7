"""The seeded, endless stream of training problems that all arms of a seed read.

Levels are drawn by weight. Within a level, problems come in shuffled epochs, so none repeats before all were drawn.
Source: our decision (O).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from extra_rl.seeding import generator


def problem_stream(
    levels_P: Sequence[str], level_weights: Mapping[str, float], start: int, count: int, seed: int
) -> list[int]:
    """Indices into the problems (P) at the positions start, ..., start + count - 1 of the stream of `seed`.

    The problem at a position does not depend on start and count, so an iteration can be selected alone.

    Args:
        levels_P: level of each problem.
        level_weights: relative frequency of each level; empty: one pool of all problems.
        start: first position.
        count: number of positions.
        seed: of the stream.
    """
    pools: dict[str, list[int]] = {}
    for index, name in enumerate(levels_P):
        pools.setdefault(name if level_weights else "", []).append(index)
    names = [name for name in (level_weights or [""]) if not level_weights or level_weights[name] > 0]
    weights = np.array([level_weights[name] if level_weights else 1.0 for name in names])
    # Drawn from the start every time: how many problems of a level were used before decides the place in its epoch.
    drawn = generator(seed, "levels").choice(len(names), size=start + count, p=weights / weights.sum())
    order: list[int] = []
    for position in range(start, start + count):
        level = int(drawn[position])
        pool = pools[names[level]]
        epoch, place = divmod(int(np.count_nonzero(drawn[:position] == level)), len(pool))
        permutation = generator(seed, "epoch", names[level], epoch).permutation(len(pool))
        order.append(pool[int(permutation[place])])
    return order
