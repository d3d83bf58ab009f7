"""Equality of words: the same words, or known synonyms (no solution, empty set)."""

from __future__ import annotations

import re

from mathjudge.answer import Formula, Labelled, Node, Words
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


def same_words(gold: Node, answer: Node, policy: Policy) -> str | None:
    left, right = _plain(gold), _plain(answer)
    if left and left == right:
        return "words"
    return "words" if any(left in meaning and right in meaning for meaning in SYNONYMS) else None


def _plain(node: Node) -> str:
    if isinstance(node, Labelled):
        return _plain(node.value)
    text = node.text if isinstance(node, Words) else node.latex if isinstance(node, Formula) else ""
    text = re.sub(r"\\text|[^\w\s]", " ", text.lower())
    return " ".join(word for word in text.split() if word not in ("the", "a", "an"))
