r"""Equality of equations and inequalities: the same solutions, whatever side the terms stand on."""

from __future__ import annotations

from typing import Any, TypeAlias

from mathjudge import symbolic
from mathjudge.answer import Formula, Labelled, Node, Quantity, Relation
from mathjudge.equal_value import parsed
from mathjudge.normalise import squash
from mathjudge.parsing import UnparseableError, parse_latex
from mathjudge.relation import FLIP, split_relation

Rule: TypeAlias = str | None


def same_relation(gold: Node, answer: Node) -> Rule:
    """Equations or inequalities that say the same; or an expression that is the gold equation, solved."""
    if isinstance(gold, Relation) and isinstance(answer, Formula | Quantity):
        return _solved(gold, answer)
    left, right = _as_inequality(gold), _as_inequality(answer)
    if left and right:
        return _same_inequality(left, right)
    if isinstance(gold, Relation) and isinstance(answer, Relation) and _spelled(gold) == _spelled(answer):
        return "equation"
    a, b = _difference(gold), _difference(answer)
    if (
        a is not None
        and b is not None
        and not (left or right)
        and symbolic.same_solutions(a, symbolic.unify_case(a, b))
    ):
        return "equation"
    return _by_math_verify(gold, answer)


def _spelled(relation: Relation) -> tuple[list[str], tuple[str, ...]]:
    return [squash(side) for side in relation.sides], relation.signs


def _solved(gold: Relation, answer: Node) -> Rule:
    """6/x for the gold xy = 6. An equation in one symbol is not solved by a number here: it may have more roots."""
    equation, expression = _difference(gold), parsed(answer)
    if gold.signs != ("=",) or equation is None or expression is None or len(equation.free_symbols) < 2:
        return None
    return "solved" if symbolic.solves(equation, expression) else None


def _as_inequality(node: Node) -> Relation | None:
    """A node as an inequality of two sides, also where it was read as the interval of its variable."""
    if isinstance(node, Labelled):
        sides, signs = split_relation(node.source)
        node = Relation(tuple(sides), tuple(signs))
    return node if isinstance(node, Relation) and len(node.signs) == 1 and node.signs[0] in FLIP else None


def _same_inequality(gold: Relation, answer: Relation) -> Rule:
    """All on one side: equal up to a positive factor, or up to a negative one with the sign turned."""
    a, b = _difference(gold), _difference(answer)
    ratio = None if a is None or b is None else symbolic.constant_ratio(a, symbolic.unify_case(a, b))
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
        left, right = (parse_latex(side) for side in sides)
    except UnparseableError:
        return None
    return left - right if symbolic.is_scalar(left) and symbolic.is_scalar(right) else None


def _by_math_verify(gold: Node, answer: Node) -> Rule:
    """Sums and products over a name, recurrences: no value at a point decides, so math-verify compares the parses."""
    texts = [text for node in (gold, answer) if (text := _relation_text(node))]
    if len(texts) < 2 or not any("\\sum" in text or "\\prod" in text for text in texts):
        return None
    try:
        a, b = (parse_latex(text) for text in texts)
    except UnparseableError:
        return None
    return "math_verify" if symbolic.same_by_math_verify(a, b) else None


def _relation_text(node: Node) -> str | None:
    if isinstance(node, Labelled):
        return f"{node.label}={node.source}"
    if isinstance(node, Relation):
        return "".join(f"{side} {sign} " for side, sign in zip(node.sides, (*node.signs, ""), strict=True))
    return None
