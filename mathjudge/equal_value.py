r"""Equality of numbers and formulas: exact for numbers, by value for formulas, with units, percents and angles.

A rounded decimal is not the fraction that it rounds: equality is exact unless the policy states a tolerance. The one
exception is a decimal as long as a double's own digits, all of them correct: it was computed, not rounded.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any, TypeAlias

from mathjudge import symbolic
from mathjudge.answer import Formula, Node, Quantity
from mathjudge.normalise import squash
from mathjudge.parsing import UnparseableError, parse_latex
from mathjudge.policy import Policy
from mathjudge.units import canonical, compatible

Rule: TypeAlias = str | None
"""The name of the rule by which two answers are equal, or None if they differ."""
Same: TypeAlias = Callable[[Node, Node, Policy], Rule]
"""`equal.same`, which compares the members of structures; passed as an argument, since it imports them."""

PARAMETERS = frozenset("jklmnpq")  # names of an integer parameter


def same_quantity(reference: Quantity, answer: Quantity, policy: Policy) -> Rule:
    """Two numbers: equal values, or a percentage and its decimal, or within the tolerance."""
    if not units_allowed(reference.unit, answer.unit, policy):
        return None
    if angle_units(reference.unit, answer.unit):  # 90 rad is not 90 degrees: one is converted
        return same_formula(reference, answer, policy)
    a, b = reference.number.value, answer.number.value
    if a == b:
        return "number"
    one_percent = policy.percent_as_decimal and (reference.unit == "%") != (answer.unit == "%")
    in_percent = (a / 100, b) if reference.unit == "%" else (a, b / 100)
    if one_percent and in_percent[0] == in_percent[1]:
        return "percent"
    if within_tolerance(a, b, policy) or (one_percent and within_tolerance(*in_percent, policy)):
        return "tolerance"
    return _long_decimal(reference, answer, abs(a - b), policy)


def units_allowed(a: str, b: str, policy: Policy) -> bool:
    """Whether the units fit: equal, unknown, or absent on one side; degrees and radians are converted, not refused."""
    if not policy.optional_units and bool(a) != bool(b):
        return False
    return compatible(a, b) or angle_units(a, b)


def angle_units(a: str, b: str) -> bool:
    """Whether one answer is in degrees and the other in radians."""
    return (a == "°" and canonical(b) == "rad") or (b == "°" and canonical(a) == "rad")


def within_tolerance(reference: Any, answer: Any, policy: Policy) -> bool:
    """Whether a value is within the policy's error of the reference; a relative error of 0 allows nothing."""
    relative, absolute = (Fraction(str(t)) for t in (policy.relative_tolerance, policy.absolute_tolerance))
    if not relative and not absolute:
        return False
    error = abs(reference - answer)
    return bool(error <= abs(reference) * relative) or bool(error <= absolute)


def _long_decimal(reference: Node, answer: Node, error: Any, policy: Policy) -> Rule:
    return "long_decimal" if any(_all_digits_correct(node, error, policy) for node in (reference, answer)) else None


def _all_digits_correct(node: Node, error: Any, policy: Policy) -> bool:
    """1.4142135623730951 is sqrt(2), 0.333333 is not 1/3: a double's digits, the last of them off by one at most."""
    if not isinstance(node, Quantity) or node.number.places is None or not policy.long_decimal_digits:
        return False
    return node.number.digits >= policy.long_decimal_digits and bool(error <= Fraction(1, 10**node.number.places))


def parsed(node: Node) -> Any | None:
    """The SymPy expression of a number or formula; None for other nodes and for text that the parser refuses."""
    if isinstance(node, Quantity):
        return symbolic.rational(node.number.value)
    if not isinstance(node, Formula):
        return None
    try:
        expression = parse_latex(node.latex)
    except UnparseableError:
        return None
    return expression if symbolic.is_scalar(expression) else None


def same_formula(reference: Node, answer: Node, policy: Policy) -> Rule:
    """Two formulas, or a formula and a number: the same text, the same value, or the same family of solutions."""
    if not isinstance(reference, Quantity | Formula) or not isinstance(answer, Quantity | Formula):
        return None
    if not units_allowed(reference.unit, answer.unit, policy):
        return None
    converted = _must_convert(reference, answer)
    if isinstance(reference, Formula) and isinstance(answer, Formula):
        same_text = squash(reference.latex) == squash(answer.latex)
        if same_text and not converted:
            return "text"
    a, b = parsed(reference), parsed(answer)
    if a is None or b is None:
        return None
    b = symbolic.unify_case(a, b)
    if infinite(a) or infinite(b):
        return "formula" if a == b and not undefined(a) else None
    readings = _readings(a, reference.unit, b, answer.unit, policy)[int(converted) :]
    for rule, left, right in readings:
        equal = symbolic.same_value(left, right)
        if equal or (equal is None and symbolic.same_by_math_verify(left, right)):
            return rule
    numeric = [(symbolic.numeric_value(left), symbolic.numeric_value(right)) for _, left, right in readings]
    known = [(left, right) for left, right in numeric if left is not None and right is not None]
    if known:
        if any(within_tolerance(left, right, policy) for left, right in known):
            return "tolerance"
        return _long_decimal(reference, answer, abs(known[0][0] - known[0][1]), policy)
    return "family" if isinstance(reference, Formula) and _same_family(reference, a, b) else None


def _must_convert(a: Node, b: Node) -> bool:
    r"""Whether the numbers may not be compared as they are written: degrees with radians, \pi degrees with \pi."""
    if not isinstance(a, Quantity | Formula) or not isinstance(b, Quantity | Formula):
        return False
    without_unit = [node.latex for node in (a, b) if isinstance(node, Formula) and not node.unit]
    multiple_of_pi = "°" in (a.unit, b.unit) and any(r"\pi" in latex for latex in without_unit)
    return angle_units(a.unit, b.unit) or multiple_of_pi


def infinite(expression: Any) -> bool:
    """Whether infinity is a term or factor of an expression: it absorbs finite terms, and 2 times infinity too."""
    import sympy

    return any(part in (sympy.oo, -sympy.oo, sympy.zoo) for part in (expression, *expression.args))


def undefined(expression: Any) -> bool:
    """Whether an expression divides by zero: 1/0 is not 2/0."""
    import sympy

    return bool(expression.has(sympy.zoo))


def _readings(a: Any, unit_a: str, b: Any, unit_b: str, policy: Policy) -> list[tuple[str, Any, Any]]:
    """The pairs that would make the answers equal: as they are written, percent as decimal, degrees as radians."""
    import sympy

    found = [("formula", a, b)]
    if policy.percent_as_decimal and unit_a != unit_b:
        found += [("percent", a / 100, b)] * (unit_a == "%") + [("percent", a, b / 100)] * (unit_b == "%")
    if policy.degrees_as_radians and unit_a != unit_b:
        radians_per_degree = sympy.pi / 180
        found += [("angle", a * radians_per_degree, b)] * (unit_a == "°")
        found += [("angle", a, b * radians_per_degree)] * (unit_b == "°")
    return found


def _same_family(reference: Formula, a: Any, b: Any) -> bool:
    r"""k\pi and n\pi: the integer parameter of a periodic family of solutions may have any name."""
    names = {symbol.name for symbol in a.free_symbols | b.free_symbols}
    if r"\pi" not in reference.latex or len(a.free_symbols) != 1 or len(b.free_symbols) != 1 or not names <= PARAMETERS:
        return False
    (ours,), (theirs,) = a.free_symbols, b.free_symbols
    return bool(symbolic.same_value(a, b.xreplace({theirs: ours})))
