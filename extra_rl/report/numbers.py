"""Numbers as the page writes them: a true minus sign, nothing for what is not known."""

from __future__ import annotations

MINUS = "\u2212"


def figure(value: float | None, form: str = ".1f") -> str:
    return "" if value is None else format(value, form).replace("-", MINUS)


def signed(value: float | None) -> str:
    """A difference, with its sign and one decimal."""
    return figure(value, "+.1f")


def interval(ends: tuple[float, float] | None) -> str:
    return f"[{signed(ends[0])}, {signed(ends[1])}]" if ends else ""
