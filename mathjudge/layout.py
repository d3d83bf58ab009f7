r"""Read answers that LaTeX sets in rows: matrices, systems of equations, functions by cases."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

from mathjudge.answer import Bracketed, Items, Matrix, MatrixFormula, Node

Reader: TypeAlias = Callable[[str, int], Node]

SEPARATOR = "\x1f"  # stands for "and" and "or" between answers
FACTOR = re.compile(r"[^=<>,;&()\[\]|]*[\w}]")
MATRIX = re.compile(
    r"^[\s([|]*\\begin\{(p|b|v|V|B|small)?(?:matrix|array)\}(?:\s*\{[lcr|\s]*\})?(.*)\\end\{(?:\1)?(?:matrix|array)\}[\s)\]|]*$",
    re.DOTALL,
)
CASES = re.compile(
    r"^\s*(?:\\\{\s*)?\\begin\{(?:cases|array|aligned)\}(?:\s*\{[lcr|\s]*\})?(.*)\\end\{(?:cases|array|aligned)\}\s*$",
    re.DOTALL,
)
ONE_MATRIX = re.compile(
    r"\\begin\{[pbvVB]?(?:small)?(?:matrix|array)\}.*?\\end\{[pbvVB]?(?:small)?(?:matrix|array)\}", re.DOTALL
)
ROW_END = re.compile(r"\\\\(?:\[[^\]]*\])?")
# Outside the matrices: it separates answers, relates them, or is words.
NO_ARITHMETIC = re.compile(r"[,;:=<>&]|(?<![A-Za-z\\])[A-Za-z]{3,}|\\(?:le|ge|ne|in|text|begin)(?![a-z])")
RELATION = re.compile(r"[=<>]|\\(?:le|ge|ne)(?![a-z])")


def read_matrix(text: str, read: Reader) -> Matrix | MatrixFormula | None:
    """Return a matrix, or a factor before one as the matrix of its products; other arithmetic stays a formula."""
    return _matrix(text, read) or _matrix_formula(text)


def _matrix(text: str, read: Reader) -> Matrix | None:
    factor, _, matrix = text.partition("\\begin{")
    factor = re.sub(r"\s*\\(?:cdot|times)\s*$", "", factor.strip())
    factor = "-1" if factor == "-" else factor
    scaled = factor and r"\det" not in factor and matrix.startswith(("pmatrix", "bmatrix")) and FACTOR.fullmatch(factor)
    match = MATRIX.match("\\begin{" + matrix if scaled else text)
    if not match or (match[1] in ("v", "V")) or text.lstrip().startswith("|") or "\\begin{" in match[2]:
        return None
    rows = [row for row in ROW_END.split(match[2].replace("\\hline", "")) if row.strip()]
    cells = [
        tuple(read(f"({factor}) \\cdot ({cell.strip()})" if scaled else cell.strip(), 1) for cell in row.split("&"))
        for row in rows
    ]
    return Matrix(tuple(cells)) if cells and len({len(row) for row in cells}) == 1 else None


def _matrix_formula(text: str) -> MatrixFormula | None:
    r"""A determinant or an expression with matrices, if nothing outside them separates or relates answers."""
    around, matrices = ONE_MATRIX.subn(" ", text)
    return MatrixFormula(text.strip()) if matrices and not NO_ARITHMETIC.search(around) else None


def read_cases(text: str, read: Reader) -> Node | None:
    """Return a system of equations as the list of its lines, a function by cases as the set of (value, condition)."""
    match = CASES.match(text)
    if not match or (MATRIX.match(text) and not RELATION.search(match[1])):
        return None
    rows = [[part.strip(" ,;.") for part in line.split("&")] for line in ROW_END.split(match[1]) if line.strip()]
    columns = max((len([part for part in row if part]) for row in rows), default=0)
    aligned = r"\begin{cases}" not in text and any(RELATION.search(part) for row in rows for part in row[:1])
    if columns > 1 and not aligned:
        return Items(
            tuple(Bracketed("case", tuple(_condition(part, read) for part in row), "") for row in rows), braces=True
        )
    return read(SEPARATOR.join("".join(row) for row in rows), 2) if len(rows) > 1 else None


def _condition(text: str, read: Reader) -> Node:
    r"""A cell of a function by cases, without \text{if}."""
    text = re.sub(r"\\text\s*\{\s*(?:if|for|when|where)?\s*\}|^(?:if|for|when|where)\b", " ", text)
    return read(re.sub(r"\\text\s*\{\s*(?:if|for|when|where)\s+", r"\\text{", text), 2)
