"""Whether two answer texts are the same: one spelling (`normalise`), a node (`reading`), a comparison (`equal`)."""

from __future__ import annotations

import re
from functools import lru_cache

from mathjudge.answer import Items, Labelled, Node, Quantity, Region
from mathjudge.braces import balanced
from mathjudge.equal import same
from mathjudge.normalise import clean, squash
from mathjudge.policy import DEFAULT, Policy
from mathjudge.reading import read


def is_list(text: str) -> bool:
    """Whether a reference answer is a list of answers, so that a response may spread it over several boxes."""
    node = _node(text)
    node = node.value if isinstance(node, Labelled) else node
    return isinstance(node, Region) or (isinstance(node, Items) and not node.ratio)


def same_text(reference: str, answer: str, policy: Policy = DEFAULT) -> str | None:
    """Return the rule by which two answer texts are equal, or None.

    Texts of more than `policy.max_answer_chars` characters, and texts with unbalanced brackets, are compared as text.
    """
    if max(len(reference), len(answer)) > policy.max_answer_chars:
        return "text" if reference.strip() == answer.strip() else None
    if policy.decimal_comma:
        reference, answer = _decimal_comma(reference), _decimal_comma(answer)
    clean_reference, clean_answer = _clean(reference), _clean(answer)
    if not clean_answer or not clean_reference:
        return None
    if squash(clean_reference) == squash(clean_answer):
        return "text"
    if not (balanced(clean_reference) and balanced(clean_answer)):
        return None
    try:
        left, right = _node(reference), _node(answer)
        return same(left, right, policy) or _same_as_lists(left, right, policy)
    except RecursionError:  # the text is nested too deep to be an answer
        return None


def _same_as_lists(reference: Node, answer: Node, policy: Policy) -> str | None:
    """100,200 is a number with a separator or a list; compared with an unmistakable list it is the list."""
    if isinstance(reference, Quantity) and "," in reference.text and isinstance(answer, Items):
        return same(read(reference.text.replace(",", ", ")), answer, policy)
    if isinstance(answer, Quantity) and "," in answer.text and isinstance(reference, Items):
        return same(reference, read(answer.text.replace(",", ", ")), policy)
    return None


def _decimal_comma(text: str) -> str:
    """2,74 as 2.74; groups of three digits stay thousands."""
    return re.sub(r"(?<=\d),(?=\d{1,2}(?!\d)|\d{4,}(?!\d))", ".", text)


# The same reference answer comes once for every response to its problem.


@lru_cache(maxsize=512)
def _clean(text: str) -> str:
    return clean(text)


@lru_cache(maxsize=512)
def _node(text: str) -> Node:
    return read(_clean(text))
