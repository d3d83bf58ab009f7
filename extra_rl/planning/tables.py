"""Aligned columns and short numbers for the lines of a plan."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return left-aligned columns under a header, after an empty line."""
    cells = [header, *rows]
    widths = [max(len(row[i]) for row in cells if i < len(row)) for i in range(len(header))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=False)).rstrip() for row in cells]
    return ["", lines[0], "-" * min(120, max(map(len, lines))), *lines[1:]]


def number(value: float) -> str:
    """Return three significant digits, with thousands separators."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
