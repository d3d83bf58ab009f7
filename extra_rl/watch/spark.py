"""Sparklines: a figure over iterations as a few characters of a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

BLOCKS = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"
ASCII = "_.-=+*#@"
"""For terminals whose encoding has no block characters."""


def sparkline(values: Sequence[float | None], width: int, levels: str = BLOCKS) -> str:
    """Return at most `width` characters; the height of each is its value relative to the largest, from zero.

    More values than characters are averaged in equal parts. A part without a finite value is a space. Negative values
    are drawn as zero.
    """
    parts = [_mean(values[begin:end]) for begin, end in _parts(len(values), width)]
    top = max((value for value in parts if value is not None), default=0.0)
    return "".join(" " if value is None else levels[_level(value, top, len(levels))] for value in parts)


def _parts(count: int, width: int) -> list[tuple[int, int]]:
    parts = min(count, width)
    return [(count * i // parts, count * (i + 1) // parts) for i in range(parts)]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return sum(known) / len(known) if known else None


def _level(value: float, top: float, levels: int) -> int:
    return 0 if top <= 0 or value <= 0 else min(levels - 1, int(value / top * levels))
