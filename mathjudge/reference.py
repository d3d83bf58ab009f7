"""What a reference answer says, and whether anything can be judged against it."""

from __future__ import annotations

from functools import lru_cache

from mathjudge.answer import (
    Bracketed,
    Chain,
    Formula,
    Items,
    Labelled,
    Matrix,
    MatrixFormula,
    Node,
    Region,
    Relation,
    SetOperation,
)
from mathjudge.braces import balanced
from mathjudge.extract import extract
from mathjudge.matrices import matrix_value
from mathjudge.normalise import clean
from mathjudge.parsing import UnparseableError, parse_latex
from mathjudge.policy import FALLBACKS
from mathjudge.reading import read

SOLUTION_CHARS = 400  # a longer reference is a worked solution that ends in its answer


@lru_cache(maxsize=512)
def reference_text(reference: str) -> str:
    """Return the answer in a reference: its boxes, or its closing phrase if it is a worked solution, else all of it."""
    found = extract(reference, frozenset({"minerva", "hashes"}))
    if found.text:
        return found.text
    if len(reference) > SOLUTION_CHARS and (solved := extract(reference, frozenset(FALLBACKS)).text):
        return solved
    return reference.strip()


@lru_cache(maxsize=512)
def reference_problem(reference: str) -> str | None:
    """Return why nothing can be judged against a reference ("empty", "unbalanced", "unparsed"), or None.

    A reference passes if every formula in it is one that the parser knows; words are compared as words.
    """
    text = clean(reference_text(reference))
    if not text:
        return "empty"
    if not balanced(text):
        return "unbalanced"
    return "unparsed" if _unparsed(read(text)) else None


def _unparsed(node: Node) -> bool:
    """Whether a node contains a formula that the parser does not know."""
    if isinstance(node, Formula):
        try:
            parse_latex(node.latex)
        except UnparseableError:
            return True
        return False
    if isinstance(node, MatrixFormula):
        return matrix_value(node.latex) is None
    if isinstance(node, Labelled):
        return _unparsed(node.value)
    return any(_unparsed(part) for part in _parts(node))


def _parts(node: Node) -> list[Node]:
    """The nodes that a structure consists of; none for single answers. A chain states its last side only."""
    if isinstance(node, Relation):
        return [read(side) for side in node.sides]
    if isinstance(node, Chain):
        return [node.sides[-1]]
    if isinstance(node, Matrix):
        return [cell for row in node.rows for cell in row]
    if isinstance(node, SetOperation):
        return [node.left, node.right]
    if isinstance(node, Bracketed | Items):
        return list(node.items)
    return list(node.pieces) if isinstance(node, Region) else []
