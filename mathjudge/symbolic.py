r"""Formulas as SymPy expressions, compared by their values.

Equality is decided by values at fixed points, not by `simplify`: two expressions are equal when they
agree to 25 digits wherever both are defined and real. An incorrect formula disagrees at the first point, so the common
case is fast, and identities that `simplify` does not find (2 arcsin sqrt(a) = arccos(1 - 2a)) are decided too.
Source: our decision; math-verify's own comparison remains the last resort (`same_by_math_verify`).
"""

from __future__ import annotations

import logging
from fractions import Fraction
from typing import Any

DIGITS = 30
AGREE = 1e-25
MAX_DIGITS = 50_000  # of a number that is told from its neighbour: 2^{2023} and 2^{2023} - 1 differ in the 610th
# Offsets that keep the symbols of one point apart; irrational enough that accidental zeros do not happen.
POINTS = (
    ("0.3140689", "0.0271043"),
    ("1.4179", "0.37141"),
    ("-0.7236", "-0.1913"),
    ("3", "2"),
    ("2.6131", "-0.4177"),
)


def is_scalar(expression: Any) -> bool:
    import sympy

    return isinstance(expression, sympy.Expr) and not isinstance(expression, sympy.MatrixExpr)


def points(symbols: set[Any], integer: bool = False) -> list[dict[Any, Any]]:
    """Return fixed assignments of distinct values to the symbols, sorted by name."""
    import sympy

    ordered = sorted(symbols, key=lambda symbol: symbol.name)
    if integer:
        return [{s: sympy.Integer(start + 2 * n) for n, s in enumerate(ordered)} for start in (4, 7, 11)]
    return [
        {s: sympy.Rational(start) + n * sympy.Rational(step) for n, s in enumerate(ordered)} for start, step in POINTS
    ]


def mixed_points(symbols: set[Any]) -> list[dict[Any, Any]]:
    r"""Return points at which neighbouring symbols differ in sign.

    |a|\sqrt{b} is not a\sqrt{b} for a < 0 < b, where both are real.
    """
    import sympy

    ordered = sorted(symbols, key=lambda symbol: symbol.name)
    if len(ordered) < 2:
        return []
    sizes = [sympy.Rational("1.2131") + n * sympy.Rational("0.3177") for n in range(len(ordered))]
    return [
        {s: size * sign * (1 if n % 2 else -1) for n, (s, size) in enumerate(zip(ordered, sizes, strict=True))}
        for sign in (1, -1)
    ]


def value(expression: Any, point: dict[Any, Any]) -> Any:
    """Return the expression's value at a point to DIGITS digits, or None if it has no finite value there."""
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
    r"""Whether two scalar expressions are equal; None if no point decides (nothing is defined at any of them).

    They must agree wherever both are defined and real. If both contain roots of symbols, the symbols are taken as
    positive, as in \sqrt{a/b} and \sqrt{ab}/b; but not if only one contains an absolute value: |a|\sqrt{b} is not
    a\sqrt{b}.
    """
    import sympy

    symbols = a.free_symbols | b.free_symbols
    if not symbols:
        left, right = value(a, {}), value(b, {})
        return None if left is None or right is None else close(left, right) and indistinguishable(a, b, left)
    rooted = has_roots(a) and has_roots(b)
    strict = bool(a.atoms(sympy.Abs)) != bool(b.atoms(sympy.Abs))
    agreed = agreed_real = 0
    signs = mixed_points(symbols) if rooted and strict else []
    for point in points(symbols) + signs + points(symbols, integer=True):
        left, right = value(a, point), value(b, point)
        if left is None or right is None or is_real_value(left) != is_real_value(right):
            continue
        if not close(left, right):
            if on_branch(a, point) or on_branch(b, point):  # one of them is not real there: nothing is decided
                continue
            # Roots agree at two positive points: a negative one only shows which sign their square has lost.
            if rooted and not strict and agreed_real >= 2 and any(number < 0 for number in point.values()):
                continue
            return False
        if agreed < 2 and not indistinguishable(a.xreplace(point), b.xreplace(point), left, beyond=100):
            return False
        agreed += 1
        agreed_real += is_real_value(left)
    return True if agreed >= 3 else None


def has_roots(expression: Any) -> bool:
    """Whether an expression contains a root of a symbol, or another power that is no integer."""
    import sympy

    return any(not power.exp.is_integer for power in expression.atoms(sympy.Pow) if power.base.free_symbols)


def on_branch(expression: Any, point: dict[Any, Any]) -> bool:
    r"""Whether a part of an expression is undefined in the real numbers at a point: a root or logarithm of a number
    below 0, the arc sine of 2.

    SymPy computes its principal value there, on which the rules of real algebra do not hold: at a = b = -1,
    \sqrt{ab} is 1 and \sqrt{a}\sqrt{b} is -1.
    """
    import sympy

    for part in sympy.preorder_traversal(expression):
        if isinstance(part, sympy.Pow) and not part.exp.xreplace(point).is_integer:
            argument = part.base
        elif isinstance(part, sympy.log):
            argument = part.args[0]
        elif isinstance(part, sympy.Function) and len(part.args) == 1:
            result, given = value(part, point), value(part.args[0], point)
            if given is not None and is_real_value(given) and (result is None or not is_real_value(result)):
                return True
            continue
        else:
            continue
        number = value(argument, point)
        if number is not None and (not is_real_value(number) or number.as_real_imag()[0] < 0):
            return True
    return False


def indistinguishable(a: Any, b: Any, size: Any, beyond: int = 400) -> bool:
    """Whether the difference of two numbers that agree to 25 digits has no significant digit at all.

    size: the value of one. SymPy raises its precision until the difference has a digit, or to `beyond` digits after
    the decimal point (then it is zero, or so near that no answer means it). True as well where SymPy cannot compute the
    difference: the 25 digits that agree are all that can be known then.
    """
    import sympy

    if a == b:
        return True
    magnitude = sympy.log(abs(size) + 1, 10).evalf(5)
    if not magnitude.is_real or magnitude > MAX_DIGITS:
        return False
    try:
        difference = sympy.Add(a, -b, evaluate=False).evalf(DIGITS, maxn=beyond + int(magnitude))
    except (ArithmeticError, ValueError, TypeError, AttributeError, NotImplementedError, RecursionError):
        return True
    return all(part.is_zero or (part.is_Float and part._prec == 1) for part in difference.as_real_imag())


def unify_case(a: Any, b: Any) -> Any:
    """Return b with a's symbols where they differ only in case: 2Cx is 2cx; b itself if one of them has R and r."""
    names = [{symbol.name.lower(): symbol for symbol in side.free_symbols} for side in (a, b)]
    if any(len(known) < len(side.free_symbols) for known, side in zip(names, (a, b), strict=True)):
        return b
    return b.xreplace({symbol: names[0].get(name, symbol) for name, symbol in names[1].items()})


def numeric_value(expression: Any) -> Any | None:
    """Return the real value of an expression without symbols, or None."""
    if not is_scalar(expression) or expression.free_symbols:
        return None
    number = value(expression, {})
    return number.as_real_imag()[0] if number is not None and is_real_value(number) else None


def root(expression: Any, symbol: Any, point: dict[Any, Any]) -> Any | None:
    """Return the root of an expression that is linear in `symbol` at a point of the other symbols, or None."""
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
    """Whether a = 0 and b = 0 are the same equation.

    One is a constant multiple of the other, or both are linear in a common symbol with equal roots at every point
    (xy = 6 and y = 6/x).
    """
    symbols = a.free_symbols | b.free_symbols
    if not symbols or a.free_symbols != b.free_symbols:
        return False
    if constant_ratio(a, b) is not None:
        return True
    return any(_same_roots(a, b, symbol, symbols - {symbol}) for symbol in sorted(symbols, key=lambda s: s.name))


def constant_ratio(a: Any, b: Any) -> Any | None:
    """Return a / b if it is the same real number at every point, and not 0; else None."""
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
    """Whether `expression` is the equation (= 0) solved for the one symbol that does not occur in it."""
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


def same_by_math_verify(reference: Any, answer: Any) -> bool:
    """math-verify's own comparison, for what has no value at a point (sums over a name, sets, relations)."""
    from math_verify import verify

    logging.getLogger("math_verify.grader").setLevel(logging.ERROR)  # it warns that its own timeout is off: ours is on
    return bool(verify(reference, answer, allow_set_relation_comp=True, timeout_seconds=None))
