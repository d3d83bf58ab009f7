r"""Equality of equations and inequalities: the same solutions, however the terms are arranged."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from mathjudge import symbolic
from mathjudge.answer import Chain, Formula, Items, Labelled, Node, Quantity, Relation
from mathjudge.equal_value import Rule, parsed, same_formula, same_quantity
from mathjudge.normalise import squash
from mathjudge.parsing import UnparseableError, parse_latex
from mathjudge.policy import Policy
from mathjudge.reading import read
from mathjudge.relation import FLIP, split_relation


def same_relation(reference: Node, answer: Node, policy: Policy) -> Rule:
    """Equations or inequalities that say the same; or an expression that is the reference equation, solved."""
    if isinstance(reference, Relation) and isinstance(answer, Formula | Quantity):
        return _solved(reference, answer)
    left, right = _as_inequality(reference), _as_inequality(answer)
    if left and right:
        return _same_inequality(left, right)
    if isinstance(reference, Relation) and isinstance(answer, Relation) and _spelled(reference) == _spelled(answer):
        return "equation"
    a, b = _difference(reference), _difference(answer)
    if (
        a is not None
        and b is not None
        and not (left or right)
        and symbolic.same_solutions(a, symbolic.unify_case(a, b))
    ):
        return "equation"
    return _same_order(reference, answer, policy) or _by_math_verify(reference, answer)


def _spelled(relation: Relation) -> tuple[list[str], tuple[str, ...]]:
    return [squash(side) for side in relation.sides], relation.signs


def _solved(reference: Relation, answer: Node) -> Rule:
    """6/x for xy = 6. An equation in one symbol is not solved by a number here: it may have more roots."""
    equation, expression = _difference(reference), parsed(answer)
    if reference.signs != ("=",) or equation is None or expression is None or len(equation.free_symbols) < 2:
        return None
    return "solved" if symbolic.solves(equation, expression) else None


def _as_inequality(node: Node) -> Relation | None:
    """A node as an inequality of two sides, also where it was read as the interval of its variable."""
    if isinstance(node, Labelled):
        sides, signs = split_relation(node.source)
        node = Relation(tuple(sides), tuple(signs))
    return node if isinstance(node, Relation) and len(node.signs) == 1 and node.signs[0] in FLIP else None


def _same_inequality(reference: Relation, answer: Relation) -> Rule:
    """All on one side: equal up to a positive factor, or up to a negative one with the sign turned."""
    a, b = _difference(reference), _difference(answer)
    ratio = None if a is None or b is None else symbolic.constant_ratio(a, symbolic.unify_case(a, b))
    if ratio is None:
        return None
    expected = reference.signs[0] if ratio > 0 else FLIP[reference.signs[0]]
    return "inequality" if answer.signs[0] == expected else None


def _difference(node: Node) -> Any | None:
    """Left side minus right side of an equation or inequality; None if it is none or cannot be parsed."""
    if isinstance(node, Labelled) and isinstance(node.value, Formula | Quantity | Chain):
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


# --- chains: a < b < c ---------------------------------------------------------------------------------------------


def _same_order(reference: Node, answer: Node, policy: Policy) -> Rule:
    """Chains of inequalities with equal terms in the same order, from either end; equal terms may change places."""
    left, right = _ascending(reference), _ascending(answer)
    if left is None or right is None or left.signs != right.signs:
        return None
    groups = [_equal_groups(chain) for chain in (left, right)]
    if [len(group) for group in groups[0]] != [len(group) for group in groups[1]]:
        return None
    same = all(_same_terms(a, b, policy) for a, b in zip(*groups, strict=True))
    return "inequality" if same else None


def _ascending(node: Node) -> Relation | None:
    """A chain of two signs or more, from its smallest term; "a < b and b < c" is one, too."""
    if isinstance(node, Labelled):
        sides, signs = split_relation(node.source)
        node = Relation(tuple(sides), tuple(signs))
    if isinstance(node, Items):
        node = _linked(node) or node
    if not isinstance(node, Relation) or len(node.signs) < 2:
        return None
    if set(node.signs) <= {"<", r"\le", "="}:
        return node
    if set(node.signs) <= {">", r"\ge", "="}:
        return Relation(node.sides[::-1], tuple(FLIP.get(sign, sign) for sign in node.signs[::-1]))
    return None


def _linked(items: Items) -> Relation | None:
    """a < b, b < c as one chain, if each inequality begins with the term that ends the one before it."""
    links = [item for item in items.items if isinstance(item, Relation)]
    if len(links) != len(items.items) or any(squash(a.sides[-1]) != squash(b.sides[0]) for a, b in pairwise(links)):
        return None
    sides = [links[0].sides[0], *(side for link in links for side in link.sides[1:])]
    return Relation(tuple(sides), tuple(sign for link in links for sign in link.signs))


def _equal_groups(chain: Relation) -> list[list[str]]:
    """The terms of an ascending chain, those joined by "=" together."""
    groups = [[chain.sides[0]]]
    for sign, side in zip(chain.signs, chain.sides[1:], strict=True):
        if sign == "=":
            groups[-1].append(side)
        else:
            groups.append([side])
    return groups


def _same_terms(reference: list[str], answer: list[str], policy: Policy) -> bool:
    unpaired = list(answer)
    for term in reference:
        partner = next((n for n, other in enumerate(unpaired) if _same_term(term, other, policy)), None)
        if partner is None:
            return False
        del unpaired[partner]
    return not unpaired


def _same_term(reference: str, answer: str, policy: Policy) -> bool:
    if squash(reference) == squash(answer):
        return True
    left, right = read(reference), read(answer)
    if isinstance(left, Quantity) and isinstance(right, Quantity):
        return same_quantity(left, right, policy) is not None
    a, b = parsed(left), parsed(right)
    if a is None or b is None or {s.name for s in a.free_symbols} != {s.name for s in b.free_symbols}:
        return False  # a and A are two terms here
    return same_formula(left, right, policy) is not None


# --- the last resort -----------------------------------------------------------------------------------------------


def _by_math_verify(reference: Node, answer: Node) -> Rule:
    """Sums and products over a name, recurrences: no value at a point decides, so math-verify compares the parses."""
    texts = [text for node in (reference, answer) if (text := _relation_text(node))]
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
