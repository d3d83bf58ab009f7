"""Equality of words, and of times of day with the ratios that are written like them (4:30 may be either)."""

from __future__ import annotations

import re

from mathjudge.answer import Clock, Formula, Items, Labelled, Node, Quantity, Words
from mathjudge.policy import Policy

SYNONYMS = (
    frozenset({"infinitely many", "infinite", "infinity", "infinitely many solutions", "infty"}),
    frozenset(
        {"no solution", "no solutions", "none", "no real solution", "no real solutions", "empty set", "emptyset"}
    ),
    frozenset({"does not exist", "dne", "undefined"}),
    frozenset({"yes", "true"}),
    frozenset({"no", "false"}),
)
SIGNS = re.compile(r"[-+*/^=<>|!_']|\\(?!text|infty|emptyset)[A-Za-z]+")


def same_words(reference: Node, answer: Node, policy: Policy) -> str | None:
    """The same words apart from case, articles and punctuation, or known synonyms ("no solution", "empty set")."""
    left, right = _plain(reference), _plain(answer)
    if left and left == right:
        return "words"
    return "words" if any(left in meaning and right in meaning for meaning in SYNONYMS) else None


def _plain(node: Node) -> str:
    """The words of a node in lower case; "" for a formula that contains more than words."""
    if isinstance(node, Labelled):
        return _plain(node.value)
    if isinstance(node, Formula) and SIGNS.search(node.latex):
        return ""
    text = node.text if isinstance(node, Words) else node.latex if isinstance(node, Formula) else ""
    text = re.sub(r"\\text|[^\w\s]", " ", text.lower())
    return " ".join(word for word in text.split() if word not in ("the", "a", "an"))


def same_clock(reference: Node, answer: Node, policy: Policy) -> str | None:
    """The same time of day: AM or PM may be left out, 14:30 is 2:30 PM."""
    return "clock" if _times(reference) & _times(answer) else None


def _times(node: Node) -> set[int]:
    """The seconds since midnight that a time can mean: two values without AM or PM."""
    if isinstance(node, Labelled):
        return _times(node.value)
    if isinstance(node, Items) and node.ratio and len(node.items) == 2:
        hours, minutes = node.items
        if isinstance(hours, Quantity) and isinstance(minutes, Quantity) and len(minutes.text) == 2:
            return _times(Clock(int(hours.number.value), int(minutes.number.value), 0, ""))
    if not isinstance(node, Clock):
        return set()
    past_hour = 60 * node.minute + node.second
    if node.half or not 1 <= node.hour <= 12:
        return {3600 * (node.hour % 12 + 12 * (node.half == "p") if node.half else node.hour) + past_hour}
    return {3600 * (node.hour % 12 + half) + past_hour for half in (0, 12)}
