"""Work in shares of nearly equal size."""

from __future__ import annotations

from collections.abc import Sequence


def shares(lengths: Sequence[int], count: int) -> list[list[int]]:
    """Indices in `count` shares of nearly equal sums of lengths: longest first, each to the share with least so far.

    Indices ascend within a share; a share is empty where there are fewer rows than shares. Source: the LPT rule
    (Graham 1969), at most 4/3 of the best possible maximum.
    """
    parts: list[list[int]] = [[] for _ in range(count)]
    sums = [0] * count
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        part = min(range(count), key=lambda k: (sums[k], k))
        parts[part].append(index)
        sums[part] += lengths[index]
    return [sorted(part) for part in parts]
