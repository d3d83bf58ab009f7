"""Equality of matrices, vectors and determinants."""

from __future__ import annotations

from typing import Any

from mathjudge import symbolic
from mathjudge.answer import Bracketed, Labelled, Matrix, MatrixFormula, Node
from mathjudge.equal_value import Rule, Same, parsed
from mathjudge.matrices import matrix_value
from mathjudge.policy import Policy


def same_matrix(reference: Node, answer: Node, policy: Policy, same: Same) -> Rule:
    """Cell by cell; a vector may be written as a point, and an expression with matrices is evaluated."""
    if isinstance(reference, Labelled):
        return same(reference.value, answer, policy)
    if isinstance(answer, Labelled):
        return same(reference, answer.value, policy)
    if isinstance(reference, MatrixFormula) or isinstance(answer, MatrixFormula):
        return _same_evaluated(reference, answer)
    left, right = _rows(reference), _rows(answer)
    if left is None or right is None:
        return None
    pointed = any(isinstance(node, Bracketed) and node.opening == "(" for node in (reference, answer))
    if pointed and all(len(rows) == 1 or all(len(row) == 1 for row in rows) for rows in (left, right)):
        left, right = [[cell for row in left for cell in row]], [[cell for row in right for cell in row]]
    if [len(row) for row in left] != [len(row) for row in right]:
        return None
    cells = [(a, b) for rows in zip(left, right, strict=True) for a, b in zip(*rows, strict=True)]
    return "matrix" if all(same(a, b, policy) for a, b in cells) else None


def _rows(node: Node) -> list[list[Node]] | None:
    if isinstance(node, Matrix):
        return [list(row) for row in node.rows]
    if isinstance(node, Bracketed) and all(isinstance(row, Bracketed) and row.opening == "[" for row in node.items):
        return [list(row.items) for row in node.items if isinstance(row, Bracketed)]  # [[1, 2], [3, 4]]
    return [list(node.items)] if isinstance(node, Bracketed) and node.opening == "(" and node.closing == ")" else None


def _same_evaluated(reference: Node, answer: Node) -> Rule:
    left, right = evaluated(reference), evaluated(answer)
    if left is None or right is None:
        return None
    matrices = [getattr(value, "is_Matrix", False) for value in (left, right)]
    if not any(matrices):
        return "determinant" if symbolic.same_value(left, right) else None
    if not all(matrices) or left.shape != right.shape:
        return None
    return "matrix" if all(symbolic.same_value(a, b) for a, b in zip(left, right, strict=True)) else None


def evaluated(node: Node) -> Any | None:
    """Return the SymPy matrix or scalar of a node, or None."""
    import sympy

    if isinstance(node, MatrixFormula):
        return matrix_value(node.latex)
    rows = _rows(node)
    if rows is None:
        return parsed(node)
    cells = [[parsed(cell) for cell in row] for row in rows]
    if any(cell is None for row in cells for cell in row) or len({len(row) for row in cells}) != 1:
        return None
    return sympy.Matrix(cells)
