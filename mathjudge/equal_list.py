"""Equality of lists, sets, tuples and ratios: member by member."""

from __future__ import annotations

import re
from itertools import combinations
from typing import Any

from mathjudge import symbolic
from mathjudge.answer import Bracketed, Formula, Items, Labelled, Node, Quantity
from mathjudge.equal_value import Rule, Same, parsed
from mathjudge.policy import Policy

MAX_DISTINCT = 50
"""Members of the longest list of tuples whose repetitions are found by comparing all pairs."""


def unlabelled(node: Node) -> Node:
    """A member without its label."""
    return node.value if isinstance(node, Labelled) else node


def same_repeated(reference: Node, answer: Items, policy: Policy, same: Same) -> Rule:
    """One answer in several spellings ("1/2 or 0.5"): each must equal the first exactly.

    A set in braces with one member is the member, but the set of the empty set is not empty.
    """
    first, *others = (unlabelled(item) for item in answer.items)
    if isinstance(first, Formula) and "emptyset" in first.latex:
        return None
    exact = policy.model_copy(update={"relative_tolerance": 0.0, "absolute_tolerance": 0.0})
    return same(reference, first, policy) if all(same(first, other, exact) for other in others) else None


def same_items(reference: Node, answer: Node, policy: Policy, same: Same) -> Rule:
    """Lists and sets: the same members in any order, unless the policy orders lists.

    Repeated members count, except in braces and in lists of tuples (a set of solutions). Names of the members decide
    if both sides have them, and order the list if only the reference answer has different ones.
    """
    if isinstance(reference, Bracketed) or isinstance(answer, Bracketed):
        return _same_sequence(reference, answer, policy, same)
    left, right = _members(reference), _members(answer)
    if any(isinstance(node, Items) and node.braces for node in (reference, answer)):
        left, right = list(dict.fromkeys(left)), list(dict.fromkeys(right))
    if _all_tuples(left) and _all_tuples(right):
        left, right = _distinct(left, policy, same), _distinct(right, policy, same)
    if _labels(left) and _labels(left) == _labels(right):
        return "list" if all_same(_by_label(left), _by_label(right), policy, same) else None
    ordered = policy.ordered_lists or (_names_differ(left) and not any(isinstance(x, Labelled) for x in right))
    compare = all_same if ordered else matched
    return "list" if compare([unlabelled(x) for x in left], [unlabelled(x) for x in right], policy, same) else None


def _same_sequence(reference: Node, answer: Node, policy: Policy, same: Same) -> Rule:
    """A list that is written as a tuple in the same order; or a tuple that is repeated."""
    bracketed, other = (reference, answer) if isinstance(reference, Bracketed) else (answer, reference)
    if not isinstance(bracketed, Bracketed) or not isinstance(other, Items):
        return None
    items = [unlabelled(item) for item in other.items]
    if len(items) == 1 or all(isinstance(item, Bracketed) for item in items):
        return "list" if all(_in_order(reference, bracketed, item, policy, same) for item in items) else None
    if other.braces and bracketed.opening != "case":
        return None
    if (bracketed.opening, bracketed.closing) != ("(", ")"):
        return None
    pair = (list(bracketed.items), items) if bracketed is reference else (items, list(bracketed.items))
    return "list" if all_same(*pair, policy, same) else None


def _in_order(reference: Node, bracketed: Bracketed, item: Node, policy: Policy, same: Same) -> Rule:
    return same(bracketed, item, policy) if bracketed is reference else same(item, bracketed, policy)


def same_bracketed(reference: Node, answer: Node, policy: Policy, same: Same) -> Rule:
    """Tuples, points and intervals: the same brackets, and the same members in the same order."""
    if not isinstance(reference, Bracketed) or not isinstance(answer, Bracketed):
        return None
    if (reference.opening, reference.closing) != (answer.opening, answer.closing):
        return None
    left, right = ([unlabelled(item) for item in node.items] for node in (reference, answer))
    return "tuple" if all_same(left, right, policy, same) else None


def all_same(reference: list[Node], answer: list[Node], policy: Policy, same: Same) -> bool:
    """Whether two sequences have the same members in the same order."""
    return len(reference) == len(answer) and all(same(a, b, policy) for a, b in zip(reference, answer, strict=True))


def matched(reference: list[Node], answer: list[Node], policy: Policy, same: Same) -> bool:
    """Whether the members of two collections pair off.

    Equality is transitive enough for greedy pairing: members of a reference answer that equal each other are
    interchangeable.
    """
    if len(reference) != len(answer):
        return False
    unpaired = list(answer)
    for member in reference:
        partner = next((n for n, other in enumerate(unpaired) if same(member, other, policy)), None)
        if partner is None:
            return False
        del unpaired[partner]
    return True


def _members(node: Node) -> list[Node]:
    return list(node.items) if isinstance(node, Items) else [node]


def _all_tuples(nodes: list[Node]) -> bool:
    return all(isinstance(unlabelled(node), Bracketed) for node in nodes)


def _distinct(nodes: list[Node], policy: Policy, same: Same) -> list[Node]:
    """Each member once: (1, 2), (1, 2) is (1, 2)."""
    found: list[Node] = []
    for node in nodes:
        if len(found) > MAX_DISTINCT or not any(same(unlabelled(other), unlabelled(node), policy) for other in found):
            found.append(node)
    return found


def _labels(nodes: list[Node]) -> set[str]:
    labels = {node.label.lower() for node in nodes if isinstance(node, Labelled)}
    return labels if len(labels) == len(nodes) else set()


def _names_differ(nodes: list[Node]) -> bool:
    """Whether every member has another name; x_1 and x_2 are one name: roots have no order."""
    names = {re.sub(r"_.*|\d+$", "", label) for label in _labels(nodes)}
    return len(names) == len(nodes) > 1


def _by_label(nodes: list[Node]) -> list[Node]:
    labelled = [node for node in nodes if isinstance(node, Labelled)]
    return [node.value for node in sorted(labelled, key=lambda node: node.label.lower())]


# --- ratios ------------------------------------------------------------------------------------------------------


def same_ratio(reference: Node, answer: Node) -> Rule:
    """a : b is the quotient a / b; longer ratios are equal up to a common factor."""
    left, right = _terms(reference), _terms(answer)
    if left is None or right is None or len(left) != len(right):
        return None
    if all(term == 0 for term in left) or all(term == 0 for term in right):
        return None
    for (a, b), (c, d) in combinations(zip(left, right, strict=True), 2):
        if not symbolic.same_value(a * d, symbolic.unify_case(a * d, b * c)):
            return None
    return "ratio"


def _terms(node: Node) -> list[Any] | None:
    """The terms of a ratio as SymPy expressions; a number or formula x is the ratio x : 1."""
    import sympy

    if isinstance(node, Items) and node.ratio:
        terms = [parsed(item) for item in node.items]
        return None if any(term is None for term in terms) else terms
    if isinstance(node, Quantity | Formula) and not node.unit and (term := parsed(node)) is not None:
        return [term, sympy.Integer(1)]
    return None
