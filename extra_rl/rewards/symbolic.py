r"""Formulas as SymPy expressions, compared by their values.

The parser is latex2sympy2_extended, the one of math-verify (an ANTLR grammar: text never reaches `eval`). Equality
is decided by exact or high-precision values at fixed points, not by `simplify`: two expressions are equal when they
agree to 25 digits wherever both are defined. A wrong formula disagrees at the first point, so the common case is
fast, and identities that `simplify` does not find (2 arcsin sqrt(a) = arccos(1 - 2a)) are decided too.
Source: our decision; math-verify's own comparison remains the last resort (`same_by_math_verify`).
"""

from __future__ import annotations

import logging
import re
from fractions import Fraction
from functools import lru_cache
from typing import Any

DIGITS = 30
AGREE = 1e-25
# Offsets that keep the symbols of one point apart; irrational enough that accidental zeros do not happen.
POINTS = (
    ("0.3140689", "0.0271043"),
    ("1.4179", "0.37141"),
    ("-0.7236", "-0.1913"),
    ("3", "2"),
    ("2.6131", "-0.4177"),
)


# An ellipsis has no value; two numbers side by side are neither a product nor a sum.
MAX_EXPONENT_DIGITS = 4
MAX_CHARS = 1000  # of one formula; the parser needs seconds for longer ones
MEANINGLESS = re.compile(r"dots|\d\s+\d")
DERIVATIVE = re.compile(r"\\frac\{?(?:d|\\partial)(?![a-z])")


class UnparseableError(ValueError):
    """The text is not a formula that the parser knows."""


@lru_cache(maxsize=512)
def parse_latex(latex: str) -> Any:
    r"""The expression of a LaTeX formula, with decimals as exact rationals and i as the imaginary unit.

    Raises UnparseableError for text outside the grammar, nesting too deep to parse included.
    """
    import sympy
    from latex2sympy2_extended import NormalizationConfig, normalize_latex
    from sympy.core.function import AppliedUndef

    if len(latex) > MAX_CHARS or MEANINGLESS.search(latex):
        raise UnparseableError(latex[:80])
    config = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=False, boxed="none", equations=False
    )
    try:
        expression = converter()(is_real=True).parse(normalize_latex(respell(latex), config))
        if not isinstance(expression, (sympy.Basic, sympy.MatrixBase)):
            raise UnparseableError(latex[:80])
        exact = {sympy.Symbol("i", real=True): sympy.I, sympy.Symbol("e", real=True): sympy.E}
        # x(t) and dx/dt have no value at a point, but they are equal where their names are.
        for named in expression.atoms(sympy.Derivative, AppliedUndef):
            exact[named] = sympy.Symbol(str(named), real=True)
        return expression.xreplace(exact)
    except MemoryError:
        raise
    except Exception as error:  # the parser raises bare Exception; nothing it raises is our fault
        raise UnparseableError(f"{type(error).__name__}: {latex[:80]}") from error


@lru_cache(maxsize=1)
def converter() -> Any:
    r"""The converter of latex2sympy2_extended 1.11, with two changes.

    It reads every integer before another number as the whole part of a mixed fraction, so that (2)(3) is 5 and
    3\binom{4}{2} is 9; here only a \frac may follow. And it makes numbers with sympy.Number(text), which hands the
    digits to parse_expr and so to `eval`; here they become exact rationals without it.
    """
    from latex2sympy2_extended.latex2sympy2 import _Latex2Sympy

    class Converter(_Latex2Sympy):  # type: ignore[misc]
        def parse_number(self, text: str) -> Any:
            return rational(exact_value(text))

        def convert_postfix_list(self, arr: list[Any], i: int = 0) -> Any:
            here, following = arr[i].getText(), arr[i + 1].getText() if i + 1 < len(arr) else ""
            mixed = here.isdigit() and following.startswith(r"\frac")
            if mixed or not following or DERIVATIVE.match(here):
                return super().convert_postfix_list(arr, i)
            left, right = self.convert_postfix(arr[i]), self.convert_postfix_list(arr, i + 1)
            matrix = any(getattr(factor, "is_Matrix", False) for factor in (left, right))
            return self.mat_mul_flat(left, right) if matrix else self.mul_flat(left, right)

    return Converter


def exact_value(text: str) -> Fraction:
    """A number of the grammar (digits, a point, perhaps an exponent) as an exact fraction."""
    _, _, exponent = text.upper().partition("E")
    if len(exponent) > MAX_EXPONENT_DIGITS:
        raise UnparseableError(f"exponent too large: {text[:20]}")
    return Fraction(text.replace(",", "").replace(" ", ""))


def respell(latex: str) -> str:
    r"""Names that the grammar does not know, as names that it does: y' (it would drop the prime), E_1, M_\odot; and
    numbers without their thousands separators."""
    latex = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", latex)
    latex = re.sub(
        r"([A-Za-z])(_(?:\{[^{}]*\}|\w))?('+)",
        lambda m: rf"\text{{{m[1]}{'prime' * len(m[3])}}}{m[2] or ''}",
        latex,
    )
    return re.sub(r"(?<![\\A-Za-z{])E(?=\s*_)", r"\\text{E}", latex).replace(r"\odot", "o")


def is_scalar(expression: Any) -> bool:
    import sympy

    return isinstance(expression, sympy.Expr) and not isinstance(expression, sympy.MatrixExpr)


def points(symbols: set[Any], integer: bool = False) -> list[dict[Any, Any]]:
    """Fixed assignments of distinct values to the symbols (sorted by name)."""
    import sympy

    ordered = sorted(symbols, key=lambda symbol: symbol.name)
    if integer:
        return [{s: sympy.Integer(start + 2 * n) for n, s in enumerate(ordered)} for start in (4, 7, 11)]
    return [
        {s: sympy.Rational(start) + n * sympy.Rational(step) for n, s in enumerate(ordered)} for start, step in POINTS
    ]


def value(expression: Any, point: dict[Any, Any]) -> Any:
    """The expression's value at a point to DIGITS digits; None where it has no finite value."""
    import sympy

    if expression.has(sympy.Sum, sympy.Product, sympy.Integral):  # seconds each, and undefined between integers
        return None
    try:
        number = expression.xreplace(point).evalf(DIGITS)
    except (ArithmeticError, ValueError, TypeError, AttributeError, NotImplementedError, RecursionError):
        return None
    if not (isinstance(number, sympy.Expr) and number.is_number) or number.has(sympy.nan, sympy.zoo, sympy.oo):
        return None
    real, imaginary = number.as_real_imag()
    if not (real.is_Float or real.is_Rational) or not (imaginary.is_Float or imaginary.is_Rational):
        return None
    return number


def close(a: Any, b: Any, agree: float = AGREE) -> bool:
    return bool(abs(a - b) <= agree * max(1, abs(a), abs(b))) if abs(a) + abs(b) > AGREE else True


def is_real_value(number: Any) -> bool:
    return bool(abs(number.as_real_imag()[1]) < AGREE)


def same_value(a: Any, b: Any) -> bool | None:
    """Whether two scalar expressions are equal; None where no point decides (nothing defined at any of them)."""
    symbols = a.free_symbols | b.free_symbols
    if not symbols:
        left, right = value(a, {}), value(b, {})
        return None if left is None or right is None else close(left, right)
    agreed = 0
    for point in points(symbols) + points(symbols, integer=True):
        left, right = value(a, point), value(b, point)
        if left is None or right is None or is_real_value(left) != is_real_value(right):
            continue
        if not close(left, right):
            return False
        agreed += 1
    return True if agreed >= 3 else None


def numeric_value(expression: Any) -> Any | None:
    """The real value of an expression without symbols, else None."""
    if not is_scalar(expression) or expression.free_symbols:
        return None
    number = value(expression, {})
    return number.as_real_imag()[0] if number is not None and is_real_value(number) else None


def root(expression: Any, symbol: Any, point: dict[Any, Any]) -> Any | None:
    """The root of an expression that is linear in `symbol` at a point of the other symbols, else None."""
    at = [value(expression, {**point, symbol: x}) for x in _abscissae()]
    if any(number is None for number in at):
        return None
    first, second, third = at
    slope = second - first
    if close(slope, 0) or not close(third - second, slope):
        return None
    return 1 - first / slope


def _abscissae() -> tuple[Any, Any, Any]:
    import sympy

    return sympy.Integer(1), sympy.Integer(2), sympy.Integer(3)


def same_solutions(a: Any, b: Any) -> bool:
    """Whether a = 0 and b = 0 are the same equation: one a constant multiple of the other, or both linear in a common
    symbol with equal roots at every point (xy = 6 and y = 6/x)."""
    symbols = a.free_symbols | b.free_symbols
    if not symbols or a.free_symbols != b.free_symbols:
        return False
    if constant_ratio(a, b) is not None:
        return True
    return any(_same_roots(a, b, symbol, symbols - {symbol}) for symbol in sorted(symbols, key=lambda s: s.name))


def constant_ratio(a: Any, b: Any) -> Any | None:
    """a / b where it is the same real number at every point, and not 0; else None."""
    symbols = a.free_symbols | b.free_symbols
    values = [(value(a, point), value(b, point)) for point in points(symbols)]
    ratios = [left / right for left, right in values if left is not None and right is not None and not close(right, 0)]
    if len(ratios) < 3 or close(ratios[0], 0) or not all(close(ratio, ratios[0]) for ratio in ratios):
        return None
    return ratios[0].as_real_imag()[0] if is_real_value(ratios[0]) else None


def _same_roots(a: Any, b: Any, symbol: Any, others: set[Any]) -> bool:
    pairs = [(root(a, symbol, point), root(b, symbol, point)) for point in points(others)]
    known = [(left, right) for left, right in pairs if left is not None and right is not None]
    return len(known) >= 3 and all(close(left, right) for left, right in known)


def solves(equation: Any, expression: Any) -> bool:
    """Whether `expression` is the equation (= 0) solved for its one symbol that the expression lacks."""
    missing = equation.free_symbols - expression.free_symbols
    if len(missing) != 1 or not expression.free_symbols <= equation.free_symbols:
        return False
    (symbol,) = missing
    others = equation.free_symbols - missing
    pairs = [(root(equation, symbol, point), value(expression, point)) for point in points(others)]
    known = [(left, right) for left, right in pairs if left is not None and right is not None]
    return len(known) >= min(3, len(pairs)) and all(close(left, right) for left, right in known)


def rational(number: Fraction) -> Any:
    import sympy

    return sympy.Rational(number.numerator, number.denominator)


def same_by_math_verify(gold: Any, answer: Any) -> bool:
    """math-verify's own comparison, for what has no value at a point (sums over a name, sets, relations)."""
    from math_verify import verify

    logging.getLogger("math_verify.grader").setLevel(logging.ERROR)  # it warns that its own timeout is off: ours is on
    return bool(verify(gold, answer, allow_set_relation_comp=True, timeout_seconds=None))
