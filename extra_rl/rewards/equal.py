r"""Whether two answers are the same: one rule per kind of answer, the name of the rule that decided as evidence.

`same(gold, answer, policy)` takes nodes of `extra_rl.rewards.answer` and returns the name of the rule by which they
are equal, or None. Numbers are compared exactly; formulas by value (`symbolic`); structures part by part.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from extra_rl.rewards import symbolic
from extra_rl.rewards.answer import (
    FLIP,
    Bracketed,
    Choice,
    Formula,
    Items,
    Labelled,
    Matrix,
    Node,
    Quantity,
    Region,
    Relation,
    Words,
    read,
    split_relation,
)
from extra_rl.rewards.normalise import squash
from extra_rl.rewards.numbers import BaseDigits
from extra_rl.rewards.policy import Policy
from extra_rl.rewards.units import compatible

Rule = str | None
PARAMETERS = frozenset("jklmnpq")
INFINITE = frozenset({"infinitely many", "infinite", "infinity", "infinitely many solutions"})


def same(gold: Node, answer: Node, policy: Policy) -> Rule:
    """The rule by which `answer` equals `gold`, or None where it does not."""
    if isinstance(gold, BaseDigits) or isinstance(answer, BaseDigits):
        return "base" if gold == answer else None
    if isinstance(gold, Choice) or isinstance(answer, Choice):
        return _same_choice(gold, answer, policy)
    if isinstance(gold, Quantity) and isinstance(answer, Quantity):
        return _same_quantity(gold, answer, policy)
    for kinds, rule in RULES:
        if isinstance(gold, kinds) or isinstance(answer, kinds):
            return rule(gold, answer, policy)
    return _same_formula(gold, answer, policy)


def _same_choice(gold: Node, answer: Node, policy: Policy) -> Rule:
    """An option by its letter; or, where the gold is a value, by the text after the letter."""
    if isinstance(gold, Choice) and isinstance(answer, Choice):
        return "choice" if gold.letter == answer.letter else None
    choice, other = (gold, answer) if isinstance(gold, Choice) else (answer, gold)
    assert isinstance(choice, Choice)
    if isinstance(other, Words | Formula):
        text = other.text if isinstance(other, Words) else other.latex
        if re.sub(r"[^A-Za-z]", "", text.replace("text", "")).upper() == choice.letter and len(text.strip()) < 12:
            return "choice"
    if isinstance(other, Labelled):
        return same(gold, other.value, policy) if other is answer else same(other.value, answer, policy)
    if not choice.rest:
        return None
    rest = read(choice.rest)
    return same(rest, other, policy) if choice is gold else same(other, rest, policy)


def _same_words(gold: Node, answer: Node, policy: Policy) -> Rule:
    left, right = _plain(gold), _plain(answer)
    if left and left == right:
        return "words"
    infinite = {left in INFINITE or left == "infty", right in INFINITE or right == "infty"}
    return "words" if infinite == {True} else None


def _plain(node: Node) -> str:
    if isinstance(node, Labelled):
        return _plain(node.value)
    text = node.text if isinstance(node, Words) else node.latex if isinstance(node, Formula) else ""
    text = re.sub(r"\\text|[^\w\s]", " ", text.lower())
    return " ".join(word for word in text.split() if word not in ("the", "a", "an"))


# --- numbers -----------------------------------------------------------------------------------------------------


LONG = "long_decimal"


def _same_quantity(gold: Quantity, answer: Quantity, policy: Policy) -> Rule:
    if not _units_allowed(gold.unit, answer.unit, policy):
        return None
    a, b = gold.number.value, answer.number.value
    if a == b:
        return "number"
    if not _angles(gold, answer) and any(x == y for x, y in _percent_readings(gold, answer, policy)):
        return "percent"
    if _within(abs(a - b), abs(a), policy):
        return "tolerance"
    if any(_all_digits_right(node, abs(a - b), policy) for node in (gold, answer)):
        return LONG
    return (
        "angle" if _angles(gold, answer) and policy.degrees_as_radians and _same_angle(gold, answer, policy) else None
    )


def _units_allowed(a: str, b: str, policy: Policy) -> bool:
    if not policy.optional_units and bool(a) != bool(b):
        return False
    return compatible(a, b) or {a, b} == {"°", "rad"}


def _angles(gold: Quantity, answer: Quantity) -> bool:
    return "°" in (gold.unit, answer.unit) and gold.unit != answer.unit


def _same_angle(gold: Quantity, answer: Quantity, policy: Policy) -> Rule:
    """Degrees against stated radians only: a bare number next to degrees is degrees without its sign."""
    return _same_value(gold, answer, policy) if {gold.unit, answer.unit} == {"°", "rad"} else None


def _percent_readings(gold: Quantity, answer: Quantity, policy: Policy) -> list[tuple[Fraction, Fraction]]:
    a, b = gold.number.value, answer.number.value
    if not policy.percent_as_decimal or gold.unit == answer.unit:
        return []
    return [(a / 100, b)] * (gold.unit == "%") + [(a, b / 100)] * (answer.unit == "%")


def _within(error: Any, scale: Any, policy: Policy) -> bool:
    allowed = max(Fraction(policy.relative_tolerance) * Fraction(scale), Fraction(policy.absolute_tolerance))
    return bool(allowed and error <= allowed)


# --- structures --------------------------------------------------------------------------------------------------


def _same_matrix(gold: Node, answer: Node, policy: Policy) -> Rule:
    if isinstance(gold, Labelled):
        return same(gold.value, answer, policy)
    if isinstance(answer, Labelled):
        return same(gold, answer.value, policy)
    left, right = _rows(gold), _rows(answer)
    if left is None or right is None:
        return None
    if isinstance(gold, Bracketed) or isinstance(answer, Bracketed):  # a vector written as a point
        left, right = [[x for row in left for x in row]], [[x for row in right for x in row]]
    if [len(row) for row in left] != [len(row) for row in right]:
        return None
    return "matrix" if all(_all_same(a, b, policy) for a, b in zip(left, right, strict=True)) else None


def _rows(node: Node) -> list[list[Node]] | None:
    if isinstance(node, Matrix):
        return [list(row) for row in node.rows]
    return [list(node.items)] if isinstance(node, Bracketed) and node.opening == "(" and node.closing == ")" else None


def _all_same(gold: list[Node] | tuple[Node, ...], answer: list[Node] | tuple[Node, ...], policy: Policy) -> bool:
    return len(gold) == len(answer) and all(same(a, b, policy) for a, b in zip(gold, answer, strict=True))


def _same_ratio(gold: Node, answer: Node, policy: Policy) -> Rule:
    """a : b is the number a / b; longer ratios are equal up to a common factor."""
    if isinstance(gold, Labelled) or isinstance(answer, Labelled):
        return _same_labelled(gold, answer, policy)
    left, right = _terms(gold), _terms(answer)
    if left is None or right is None or len(left) != len(right):
        return None
    pairs = list(zip(left, right, strict=True))
    if not any(left) or not any(right):
        return None
    cross = all(a * d == b * c for n, (a, b) in enumerate(pairs) for c, d in pairs[:n])
    return "ratio" if cross else None


def _terms(node: Node) -> list[Fraction] | None:
    if isinstance(node, Quantity) and not node.unit:
        return [node.number.value, Fraction(1)]
    if isinstance(node, Items) and node.ratio and all(isinstance(item, Quantity) for item in node.items):
        return [item.number.value for item in node.items if isinstance(item, Quantity)]
    return None


def _same_items(gold: Node, answer: Node, policy: Policy) -> Rule:
    """Lists and sets: the same members, in any order (unless the policy orders lists); repeated members count once
    each. A list may also be written as a tuple in the same order."""
    if (isinstance(gold, Items) and gold.ratio) or (isinstance(answer, Items) and answer.ratio):
        return _same_ratio(gold, answer, policy)
    if isinstance(gold, Labelled) or isinstance(answer, Labelled):
        return _same_labelled(gold, answer, policy)
    if isinstance(gold, Bracketed) or isinstance(answer, Bracketed):
        return _same_sequence(gold, answer, policy)
    left, right = _members(gold), _members(answer)
    if policy.ordered_lists:
        return "list" if _all_same([_value(x) for x in left], [_value(x) for x in right], policy) else None
    if _labels(left) and _labels(left) == _labels(right):
        left, right = _by_label(left), _by_label(right)
        return "list" if _all_same(left, right, policy) else None
    return "list" if _matched([_value(x) for x in left], [_value(x) for x in right], policy) else None


def _same_sequence(gold: Node, answer: Node, policy: Policy) -> Rule:
    bracketed, other = (gold, answer) if isinstance(gold, Bracketed) else (answer, gold)
    if not isinstance(bracketed, Bracketed) or not isinstance(other, Items):
        return None
    if len(other.items) == 1:
        return same(gold, other.items[0], policy) if bracketed is gold else same(other.items[0], answer, policy)
    if (bracketed.opening, bracketed.closing) != ("(", ")"):
        return None
    values = [_value(item) for item in other.items]
    ordered = (
        _all_same(bracketed.items, values, policy) if bracketed is gold else _all_same(values, bracketed.items, policy)
    )
    return "list" if ordered else None


def _members(node: Node) -> list[Node]:
    return list(node.items) if isinstance(node, Items) else [node]


def _value(node: Node) -> Node:
    """A member without its label, unless the label makes it an interval's or equation's variable."""
    return node.value if isinstance(node, Labelled) else node


def _labels(nodes: list[Node]) -> set[str]:
    labels = {node.label.lower() for node in nodes if isinstance(node, Labelled)}
    return labels if len(labels) == len(nodes) else set()


def _by_label(nodes: list[Node]) -> list[Node]:
    labelled = [node for node in nodes if isinstance(node, Labelled)]
    return [node.value for node in sorted(labelled, key=lambda node: node.label.lower())]


def _matched(gold: list[Node], answer: list[Node], policy: Policy) -> bool:
    """Whether two collections pair off, by the same relation in both directions. Equality is transitive enough for
    greedy pairing: members of a gold that equal each other are interchangeable."""
    if len(gold) != len(answer):
        return False
    open_ = list(answer)
    for member in gold:
        partner = next((n for n, other in enumerate(open_) if same(member, other, policy)), None)
        if partner is None:
            return False
        del open_[partner]
    return True


def _same_region(gold: Node, answer: Node, policy: Policy) -> Rule:
    left, right = _pieces(gold), _pieces(answer)
    return "interval" if left and right and _matched(left, right, policy) else None


def _pieces(node: Node) -> list[Node] | None:
    """The pieces of a solution set: its intervals, and its isolated points."""
    if isinstance(node, Labelled):
        return _pieces(node.value)
    if isinstance(node, Region):
        pieces = _gaps(node) if node.complement else list(node.pieces)
        return [p for piece in pieces for p in (_pieces(piece) or [piece])]
    if isinstance(node, Items):
        return [p for item in node.items for p in (_pieces(item) or [item])]
    return [node] if isinstance(node, Bracketed) else None


def _gaps(region: Region) -> list[Node]:
    """Everything but some points, as open intervals (points that have no order stay a complement of their own)."""
    points = [piece for item in region.pieces for piece in _members(item)]
    if not all(isinstance(point, Quantity) for point in points):
        return [Bracketed("excluded", tuple(points), "")] if len(points) > 1 else _around(points)
    ordered: list[Node] = sorted(points, key=lambda q: q.number.value)  # type: ignore[union-attr]
    return _around(ordered)


def _around(points: list[Node]) -> list[Node]:
    ends: list[Node] = [read(r"-\infty"), *points, read(r"\infty")]
    return [Bracketed("(", (low, high), ")") for low, high in zip(ends, ends[1:], strict=False)]


def _same_bracketed(gold: Node, answer: Node, policy: Policy) -> Rule:
    if isinstance(gold, Labelled) or isinstance(answer, Labelled):
        return _same_labelled(gold, answer, policy)
    if not isinstance(gold, Bracketed) or not isinstance(answer, Bracketed):
        return None
    if (gold.opening, gold.closing) != (answer.opening, answer.closing):
        return None
    return "tuple" if _all_same([_value(x) for x in gold.items], [_value(x) for x in answer.items], policy) else None


# --- labels, equations, formulas ---------------------------------------------------------------------------------


def _same_labelled(gold: Node, answer: Node, policy: Policy) -> Rule:
    """x = 5 is 5, and 5 is x = 5; but x = 5 is not y = 5. f(z) = z is f(x) = x: an argument's name is free."""
    if isinstance(gold, Labelled) and isinstance(answer, Labelled):
        if _named_differently(gold, answer):
            return None
        answer = _with_argument_of(gold, answer)
        return same(gold.value, answer.value, policy) or _same_equation(gold, answer)
    if isinstance(gold, Relation) or isinstance(answer, Relation):
        return _same_relation(gold, answer, policy)
    return same(_value(gold), _value(answer), policy)


def _named_differently(gold: Labelled, answer: Labelled) -> bool:
    a, b = gold.label, answer.label
    return len(a) == 1 == len(b) and a.lower() != b.lower()


def _with_argument_of(gold: Labelled, answer: Labelled) -> Labelled:
    theirs, ours = (re.fullmatch(r"\w+'*\((\w)\)", node.label) for node in (answer, gold))
    if not theirs or not ours or theirs[1] == ours[1]:
        return answer
    source = re.sub(rf"(?<![\\A-Za-z]){theirs[1]}(?![A-Za-z])", ours[1], answer.source)
    return Labelled(gold.label, read(source), source)


def _same_family(gold: Formula, answer: Formula) -> Rule:
    r"""k\pi and n\pi: the integer parameter of a periodic family of solutions may have any name."""
    a, b = _parsed(gold), _parsed(answer)
    if r"\pi" not in gold.latex or a is None or b is None or len(a.free_symbols) != 1 or len(b.free_symbols) != 1:
        return None
    (ours,), (theirs,) = a.free_symbols, b.free_symbols
    if not {ours.name, theirs.name} <= PARAMETERS:
        return None
    return "family" if symbolic.same_value(a, b.xreplace({theirs: ours})) else None


def _same_relation(gold: Node, answer: Node, policy: Policy) -> Rule:
    """Equations that say the same, or a gold equation solved for one of its symbols."""
    if isinstance(gold, Relation) and isinstance(answer, Formula | Quantity):
        equation, expression = _difference(gold), _parsed(answer)
        linear = equation is not None and expression is not None and len(equation.free_symbols) > 1
        return "solved" if linear and symbolic.solves(equation, expression) else None
    return _same_equation(gold, answer)


def _same_equation(gold: Node, answer: Node) -> Rule:
    left, right = _inequality(gold), _inequality(answer)
    if left and right:
        return _same_inequality(left, right)
    if isinstance(gold, Relation) and isinstance(answer, Relation):
        if [squash(s) for s in gold.sides] == [squash(s) for s in answer.sides] and gold.signs == answer.signs:
            return "equation"
    a, b = _difference(gold), _difference(answer)
    if a is not None and b is not None and symbolic.same_solutions(a, b):
        return "equation"
    return _by_math_verify(gold, answer)


def _inequality(node: Node) -> Relation | None:
    """A node as an inequality of two sides, also where it was read as the interval of its variable."""
    sides, signs = split_relation(node.source) if isinstance(node, Labelled) else ([], [])
    relation = Relation(tuple(sides), tuple(signs)) if signs else node
    return (
        relation if isinstance(relation, Relation) and len(relation.signs) == 1 and relation.signs[0] in FLIP else None
    )


def _same_inequality(gold: Relation, answer: Relation) -> Rule:
    """All on one side: equal up to a positive factor, or up to a negative one with the sign turned."""
    a, b = _difference(gold), _difference(answer)
    ratio = None if a is None or b is None else symbolic.constant_ratio(a, b)
    if ratio is None:
        return None
    expected = gold.signs[0] if ratio > 0 else FLIP[gold.signs[0]]
    return "inequality" if answer.signs[0] == expected else None


def _difference(node: Node) -> Any | None:
    """Left side minus right side of an equation or inequality; None where it is none or cannot be parsed."""
    if isinstance(node, Labelled) and isinstance(node.value, Formula | Quantity):
        sides: tuple[str, ...] = (node.label, node.source)
    elif isinstance(node, Relation) and len(node.sides) == 2 and node.signs[0] != r"\in":
        sides = node.sides
    else:
        return None
    try:
        left, right = (symbolic.parse_latex(side) for side in sides)
    except symbolic.UnparseableError:
        return None
    return left - right if symbolic.is_scalar(left) and symbolic.is_scalar(right) else None


def _parsed(node: Node) -> Any | None:
    """The SymPy expression of a number or formula, or None."""
    if isinstance(node, Quantity):
        return symbolic.rational(node.number.value)
    if not isinstance(node, Formula):
        return None
    try:
        expression = symbolic.parse_latex(node.latex)
    except symbolic.UnparseableError:
        return None
    return expression if symbolic.is_scalar(expression) else None


def _same_formula(gold: Node, answer: Node, policy: Policy) -> Rule:
    if not isinstance(gold, Quantity | Formula) or not isinstance(answer, Quantity | Formula):
        return None
    if isinstance(gold, Formula) and isinstance(answer, Formula) and squash(gold.latex) == squash(answer.latex):
        return "text" if compatible(gold.unit, answer.unit) else None
    if not _units_allowed(gold.unit, answer.unit, policy):
        return None
    rule = _same_value(gold, answer, policy)
    return rule or (_same_family(gold, answer) if isinstance(gold, Formula) and isinstance(answer, Formula) else None)


def _same_value(gold: Quantity | Formula, answer: Quantity | Formula, policy: Policy) -> Rule:
    a, b = _parsed(gold), _parsed(answer)
    if a is None or b is None:
        return None
    for rule, left, right in _readings(a, gold.unit, b, answer.unit, policy):
        verdict = symbolic.same_value(left, right)
        if verdict or (verdict is None and rule == "formula" and symbolic.same_by_math_verify(left, right)):
            return rule
    return _same_decimal(gold, a, answer, b, policy)


def _readings(a: Any, unit_a: str, b: Any, unit_b: str, policy: Policy) -> list[tuple[str, Any, Any]]:
    """The pairs of values that would make the answers equal: as they stand, percent as decimal, degrees as radians."""
    import sympy

    found = [("formula", a, b)]
    if policy.percent_as_decimal and unit_a != unit_b:
        found += [("percent", a / 100, b)] * (unit_a == "%") + [("percent", a, b / 100)] * (unit_b == "%")
    if policy.degrees_as_radians and unit_a != unit_b:
        turn = sympy.pi / 180
        found += [("angle", a * turn, b)] * (unit_a == "°") + [("angle", a, b * turn)] * (unit_b == "°")
    return found


def _same_decimal(gold: Quantity | Formula, a: Any, answer: Quantity | Formula, b: Any, policy: Policy) -> Rule:
    """A number within the tolerance; or a long decimal whose every digit is right (1.4142135623730951 is sqrt(2),
    0.333333 is not 1/3)."""
    left, right = symbolic.numeric_value(a), symbolic.numeric_value(b)
    if left is None or right is None:
        return None
    error = abs(left - right)
    if _within_real(error, abs(left), policy):
        return "tolerance"
    return LONG if any(_all_digits_right(node, error, policy) for node in (gold, answer)) else None


def _within_real(error: Any, scale: Any, policy: Policy) -> bool:
    allowed = max(policy.relative_tolerance * scale, policy.absolute_tolerance)
    return bool(allowed > 0 and error <= allowed)


def _all_digits_right(node: Quantity | Formula, error: Any, policy: Policy) -> bool:
    if not isinstance(node, Quantity) or node.number.places is None or not policy.long_decimal_digits:
        return False
    return node.number.digits >= policy.long_decimal_digits and bool(error <= Fraction(1, 10**node.number.places))


def _by_math_verify(gold: Node, answer: Node) -> Rule:
    """Relations that no value decides (sums over a name, recurrences): math-verify's comparison of both parses."""
    texts = [_relation_text(node) for node in (gold, answer)]
    if None in texts or not any("\\sum" in text or "\\prod" in text for text in texts if text):
        return None
    try:
        a, b = (symbolic.parse_latex(text) for text in texts if text)
    except symbolic.UnparseableError:
        return None
    return "math_verify" if symbolic.same_by_math_verify(a, b) else None


def _relation_text(node: Node) -> str | None:
    if isinstance(node, Labelled):
        return f"{node.label}={node.source}"
    if isinstance(node, Relation):
        return "".join(f"{side} {sign} " for side, sign in zip(node.sides, (*node.signs, ""), strict=True))
    return None


RULES: tuple[tuple[type | tuple[type, ...], Callable[[Node, Node, Policy], Rule]], ...] = (
    (Words, _same_words),
    (Region, _same_region),
    (Matrix, _same_matrix),
    (Items, _same_items),
    (Bracketed, _same_bracketed),
    (Relation, _same_relation),
    (Labelled, _same_labelled),
)


def unparsed(node: Node) -> bool:
    """Whether a node contains a formula that the parser does not know."""
    if isinstance(node, Formula):
        try:
            symbolic.parse_latex(node.latex)
        except symbolic.UnparseableError:
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
