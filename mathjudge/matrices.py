r"""Arithmetic with matrices in LaTeX: determinants, sums, products, transposes and integer powers as SymPy values.

The grammar of the LaTeX parser knows matrices, but no determinant bars, and reads products of matrices and numbers
in its own way. So the text around the matrices is taken apart here, and the parser reads only cells and factors.
"""

from __future__ import annotations

import re
from typing import Any

from mathjudge.braces import levels
from mathjudge.parsing import UnparseableError, parse_latex

MAX_MATRICES = 8
MAX_SIZE = 6
MAX_POWER = 20
ENVIRONMENT = re.compile(
    r"(?P<open>[(\[|]\s*)?\\begin\{(?P<kind>[pbvVB]?)(?:small)?(?:matrix|array)\}(?:\s*\{[lcr|\s]*\})?"
    r"(?P<rows>(?:(?!\\begin).)*?)\\end\{[pbvVB]?(?:small)?(?:matrix|array)\}(?P<close>\s*[)\]|])?",
    re.DOTALL,
)
ROW_END = re.compile(r"\\\\(?:\[[^\]]*\])?")
MARK = "\ue000"  # stands for a matrix in the text around it, followed by its number and MARK again
FACTOR = re.compile(
    rf"(?P<det>\\det\s*|\\text\{{\s*det\s*\}}\s*)?\(?\s*{MARK}(?P<number>\d){MARK}\s*(?(det)\)?|)"
    r"(?:\^\s*\{?\s*(?P<power>T|t|\\top|\\intercal|\\prime|'|-?\d{1,2})\s*\}?)?"
)


def matrix_value(latex: str) -> Any | None:
    """Return a SymPy matrix, or the number or formula that a determinant is; None if the text is no such expression.

    Matrices have at most MAX_SIZE rows and columns, expressions at most MAX_MATRICES matrices.
    """
    values: list[Any] = []
    try:
        text = ENVIRONMENT.sub(lambda match: _marked(match, values), latex)
        if not values or "\\begin" in text:
            return None
        total = None
        for term in _terms(text):
            value = _product(term, values)
            total = value if total is None else total + value
        return total
    except (UnparseableError, ValueError, TypeError, ZeroDivisionError):  # SymPy: ShapeError is a ValueError
        return None


def _marked(match: re.Match[str], values: list[Any]) -> str:
    """Evaluate one matrix or determinant, append it to `values`, and return what stands for it in the text."""
    import sympy

    opening, closing = (match["open"] or "").strip(), (match["close"] or "").strip()
    rows = [
        [parse_latex(cell.strip()) for cell in row.split("&")] for row in ROW_END.split(match["rows"]) if row.strip()
    ]
    if not rows or len({len(row) for row in rows}) != 1 or max(len(rows), len(rows[0])) > MAX_SIZE:
        raise UnparseableError(match[0][:80])
    value = sympy.Matrix(rows)
    if len(values) == MAX_MATRICES:
        raise UnparseableError("too many matrices")
    bars = opening == "|" == closing
    values.append(value.det() if bars or match["kind"] in ("v", "V") else value)
    paired = bars or opening + closing in ("()", "[]")
    outside = ("", "") if paired else (match["open"] or "", match["close"] or "")
    return f"{outside[0]}{MARK}{len(values) - 1}{MARK}{outside[1]}"


def _terms(text: str) -> list[str]:
    """Split at + and - outside brackets; a term keeps its sign."""
    terms, start = [], 0
    for at, char, depth in levels(text):
        if depth == 0 and char in "+-" and text[start:at].strip(" +-"):
            terms.append(text[start:at])
            start = at
    return [*terms, text[start:]]


def _product(term: str, values: list[Any]) -> Any:
    """Return the product of a term's factors in their order: numbers and formulas, matrices, determinants."""
    import sympy

    term = term.strip()
    product: Any = sympy.Integer(-1 if term.startswith("-") else 1)
    term, end = term.lstrip("+- "), 0
    for match in FACTOR.finditer(term):
        product = product * _scalar(term[end : match.start()])
        value = values[int(match["number"])]
        if match["det"]:
            value = value.det()
        product = product * _powered(value, match["power"])
        end = match.end()
    return product * _scalar(term[end:])


def _scalar(text: str) -> Any:
    import sympy

    times = r"(?:\\(?:cdot|times)(?![a-z])|\*)"
    text = re.sub(rf"^{times}|{times}$", "", text.strip()).strip()
    return parse_latex(text) if text else sympy.Integer(1)


def _powered(value: Any, power: str | None) -> Any:
    if power is None:
        return value
    if not re.fullmatch(r"-?\d+", power):
        return value.T
    if abs(int(power)) > MAX_POWER:
        raise UnparseableError("power too large")
    return value ** int(power)
