"""The line reward -> normalised -> + bonus -> advantage, in numbers that add up as they are shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

DECIMALS = 6
"""What is shown of a float32. Two roundings need not add up to a third, so the sum is taken of what is shown."""
TOLERANCE = 1e-5
"""Of the contract `Advantages.parts_add_up`, relative to 1 + |sum|."""


class Sum(NamedTuple):
    """normalised + bonus == total to the last shown decimal. final: the advantage; another number than `total` only
    where a negative one was taken away (`advantage.guided_advantage`)."""

    normalised: float
    bonus: float
    total: float
    final: float


def adding_up(normalised: float, bonus: float, advantage: float) -> Sum:
    """The parts of an advantage, rounded so that they add up. `final` is the rounded sum where the stored advantage is
    that sum within the contract's tolerance, else the stored one."""
    first, second = (round(part, DECIMALS) + 0.0 for part in (normalised, bonus))  # + 0.0: no minus before a zero
    total = round(first + second, DECIMALS) + 0.0
    same = abs(advantage - total) <= TOLERANCE * (1 + abs(total))
    return Sum(first, second, total, total if same else round(advantage, DECIMALS) + 0.0)


def formula(row: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """How the normalised reward came about, for example `(1 - 0.25) / (0.46291 + 1e-06)`; "" where none was computed.

    row: of `facts.advantages_of`. settings: the section `advantage`.
    """
    if row["reward"] is None or row["mean"] is None or row["trained"] in ("unrescued", "excluded"):
        return ""
    top = f"({row['reward']:.6g} - {row['mean']:.6g})"
    if not settings.get("divide_by_std", True):
        return top
    return f"{top} / ({row['sd'] or 0.0:.6g} + {settings.get('eps', 1e-6):g})"
