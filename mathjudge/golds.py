"""What a gold answer says, and whether anything can be judged against it."""

from __future__ import annotations

from functools import lru_cache

from mathjudge.answer import Bracketed, Formula, Items, Labelled, Matrix, Node, Region, Relation
from mathjudge.braces import balanced
from mathjudge.extract import extract
from mathjudge.normalise import clean
from mathjudge.parsing import UnparseableError, parse_latex
from mathjudge.policy import FALLBACKS
from mathjudge.reading import read

SOLUTION_CHARS = 400  # a longer gold is a worked solution that ends in its answer


@lru_cache(maxsize=512)
def gold_text(gold: str) -> str:
    """The answer in a gold: its boxes, or its closing phrase if it is a worked solution, else all of it."""
    found = extract(gold, frozenset({"minerva", "hashes"}))
    if found.text:
        return found.text
    if len(gold) > SOLUTION_CHARS and (solved := extract(gold, frozenset(FALLBACKS)).text):
        return solved
    return gold.strip()


@lru_cache(maxsize=512)
def gold_problem(gold: str) -> str | None:
    """Why a gold cannot be judged against ("empty", "unbalanced", "unparsed"), or None where it can.

    A gold passes if every formula in it is one that the parser knows; words are compared as words.
    """
    text = clean(gold_text(gold))
    if not text:
        return "empty"
    if not balanced(text):
        return "unbalanced"
    return "unparsed" if unparsed(read(text)) else None


def unparsed(node: Node) -> bool:
    """Whether a node contains a formula that the parser does not know."""
    if isinstance(node, Formula):
        try:
            parse_latex(node.latex)
        except UnparseableError:
            return True
        return False
    if isinstance(node, Labelled):
        return unparsed(node.value)
    if isinstance(node, Relation):
        return any(unparsed(read(side)) for side in node.sides)
    if isinstance(node, Matrix):
        return any(unparsed(cell) for row in node.rows for cell in row)
    members = node.items if isinstance(node, Bracketed | Items) else node.pieces if isinstance(node, Region) else ()
    return any(unparsed(member) for member in members)
