"""Times of day, and ratios, which are written like them: 4:30 may be either, 4:3 is a ratio."""

from __future__ import annotations

from fractions import Fraction

from mathjudge.answer import Clock, Items, Labelled, Node, Quantity
from mathjudge.policy import Policy


def same_clock(gold: Node, answer: Node, policy: Policy) -> str | None:
    """Times of day: AM or PM may be left out, 14:30 is 2:30 PM."""
    return "clock" if _times(gold) & _times(answer) else None


def _times(node: Node) -> set[int]:
    """The seconds since midnight that a time can mean: two of them without AM or PM."""
    if isinstance(node, Labelled):
        return _times(node.value)
    if (
        isinstance(node, Items)
        and node.ratio
        and (terms := ratio_terms(node))
        and len(terms) == 2
        and _minutes(node.items[1])
    ):
        return _times(Clock(int(terms[0]), int(terms[1]), 0, ""))
    if not isinstance(node, Clock):
        return set()
    past_hour = 60 * node.minute + node.second
    if node.half or not 1 <= node.hour <= 12:
        return {3600 * (node.hour % 12 + 12 * (node.half == "p") if node.half else node.hour) + past_hour}
    return {3600 * (node.hour % 12 + half) + past_hour for half in (0, 12)}


def _minutes(node: Node) -> bool:
    return isinstance(node, Quantity) and len(node.text) == 2


def ratio_terms(node: Node) -> list[Fraction] | None:
    if isinstance(node, Quantity) and not node.unit:
        return [node.number.value, Fraction(1)]
    if isinstance(node, Items) and node.ratio and all(isinstance(item, Quantity) for item in node.items):
        return [item.number.value for item in node.items if isinstance(item, Quantity)]
    return None
