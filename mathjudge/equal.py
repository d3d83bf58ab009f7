r"""Whether two answers are the same: one rule per kind of answer, the name of the rule that decided as evidence.

`same(gold, answer, policy)` takes nodes of `mathjudge.answer` and returns the name of the rule by which they
are equal, or None. Numbers are compared exactly; formulas by value (`symbolic`); structures part by part.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import TypeAlias

from mathjudge.answer import (
    Bracketed,
    Choice,
    Clock,
    Formula,
    Items,
    Labelled,
    Matrix,
    Node,
    Quantity,
    Region,
    Relation,
    Words,
)
from mathjudge.equal_clock import ratio_terms, same_clock
from mathjudge.equal_relation import same_relation
from mathjudge.equal_value import same_formula, same_quantity
from mathjudge.equal_words import same_words
from mathjudge.numbers import BaseDigits
from mathjudge.policy import Policy
from mathjudge.reading import read
from mathjudge.relation import names_a_number, number_side

Rule: TypeAlias = str | None
SINGLE = (Quantity, Formula, Words)


def same(gold: Node, answer: Node, policy: Policy) -> Rule:
    """The rule by which `answer` equals `gold`, or None where it does not."""
    if isinstance(gold, BaseDigits) or isinstance(answer, BaseDigits):
        return "base" if gold == answer else None
    if isinstance(gold, Choice) or isinstance(answer, Choice):
        return _same_choice(gold, answer, policy)
    if isinstance(gold, Quantity) and isinstance(answer, Quantity):
        return same_quantity(gold, answer, policy)
    if isinstance(answer, Items) and not answer.ratio and isinstance(_value(gold), SINGLE):
        return _same_repeated(gold, answer, policy)
    for kinds, rule in RULES:
        if isinstance(gold, kinds) or isinstance(answer, kinds):
            return rule(gold, answer, policy)
    return same_formula(gold, answer, policy)


def _same_repeated(gold: Node, answer: Items, policy: Policy) -> Rule:
    """One answer, given in several spellings ("1/2 or 0.5"): right, and each of them exactly the first.

    A set in braces with one member is the member, save that the set of the empty set is not empty.
    """
    first, *others = (_value(item) for item in answer.items)
    if isinstance(first, Formula) and "emptyset" in first.latex:
        return None
    exact = policy.model_copy(update={"relative_tolerance": 0.0, "absolute_tolerance": 0.0})
    return same(gold, first, policy) if all(same(first, other, exact) for other in others) else None


def _same_choice(gold: Node, answer: Node, policy: Policy) -> Rule:
    """An option by its letter; or, where the gold is a value, by the text after the letter."""
    if isinstance(gold, Choice) and isinstance(answer, Choice):
        return "choice" if gold.letter == answer.letter else None
    choice, other = (gold, answer) if isinstance(gold, Choice) else (answer, gold)
    assert isinstance(choice, Choice)
    if isinstance(other, Words | Formula):
        text = other.text if isinstance(other, Words) else other.latex
        letter = re.sub(r"[^A-Za-z]", "", text.replace("text", ""))
        if letter.upper() == choice.letter and len(text.strip()) < 12 and letter not in ("e", "i"):  # these are numbers
            return "choice"
    if isinstance(other, Labelled):
        return same(gold, other.value, policy) if other is answer else same(other.value, answer, policy)
    if not choice.rest:
        return None
    rest = read(choice.rest)
    if isinstance(rest, Choice):
        return None
    return same(rest, other, policy) if choice is gold else same(other, rest, policy)


# --- structures --------------------------------------------------------------------------------------------------


def _same_matrix(gold: Node, answer: Node, policy: Policy) -> Rule:
    if isinstance(gold, Labelled):
        return same(gold.value, answer, policy)
    if isinstance(answer, Labelled):
        return same(gold, answer.value, policy)
    left, right = _rows(gold), _rows(answer)
    if left is None or right is None:
        return None
    pointed = any(isinstance(node, Bracketed) and node.opening == "(" for node in (gold, answer))
    if pointed and all(len(rows) == 1 or all(len(row) == 1 for row in rows) for rows in (left, right)):
        # a vector written as a point
        left, right = [[x for row in left for x in row]], [[x for row in right for x in row]]
    if [len(row) for row in left] != [len(row) for row in right]:
        return None
    return "matrix" if all(_all_same(a, b, policy) for a, b in zip(left, right, strict=True)) else None


def _rows(node: Node) -> list[list[Node]] | None:
    if isinstance(node, Matrix):
        return [list(row) for row in node.rows]
    if isinstance(node, Bracketed) and all(isinstance(row, Bracketed) and row.opening == "[" for row in node.items):
        return [list(row.items) for row in node.items if isinstance(row, Bracketed)]  # [[1, 2], [3, 4]]
    return [list(node.items)] if isinstance(node, Bracketed) and node.opening == "(" and node.closing == ")" else None


def _all_same(gold: list[Node] | tuple[Node, ...], answer: list[Node] | tuple[Node, ...], policy: Policy) -> bool:
    return len(gold) == len(answer) and all(same(a, b, policy) for a, b in zip(gold, answer, strict=True))


def _same_ratio(gold: Node, answer: Node, policy: Policy) -> Rule:
    """a : b is the number a / b; longer ratios are equal up to a common factor."""
    if isinstance(gold, Labelled) or isinstance(answer, Labelled):
        return _same_labelled(gold, answer, policy)
    left, right = ratio_terms(gold), ratio_terms(answer)
    if left is None or right is None or len(left) != len(right):
        return None
    pairs = list(zip(left, right, strict=True))
    if not any(left) or not any(right):
        return None
    cross = all(a * d == b * c for n, (a, b) in enumerate(pairs) for c, d in pairs[:n])
    return "ratio" if cross else None


def _same_items(gold: Node, answer: Node, policy: Policy) -> Rule:
    """Lists and sets: the same members, in any order (unless the policy orders lists); repeated members count once
    each. A list may also be written as a tuple in the same order."""
    if (isinstance(gold, Items) and gold.ratio) or (isinstance(answer, Items) and answer.ratio):
        return _same_ratio(gold, answer, policy)
    if isinstance(gold, Labelled) or isinstance(answer, Labelled):
        return _same_labelled(gold, answer, policy)
    if isinstance(gold, Bracketed) or isinstance(answer, Bracketed):
        return _same_sequence(gold, answer, policy)
    left, right = (_distinct(node) if _braced(gold, answer) else _members(node) for node in (gold, answer))
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
    if other.braces and bracketed.opening != "case" and len(other.items) > 1:
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


def _braced(*nodes: Node) -> bool:
    return any(isinstance(node, Items) and node.braces for node in nodes)


def _distinct(node: Node) -> list[Node]:
    r"""The members of a set, each once: \{1, 2, 2\} is \{1, 2\}."""
    members: list[Node] = []
    for member in _members(node):
        if member not in members:
            members.append(member)
    return members


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
    return [Bracketed("(", (low, high), ")") for low, high in itertools.pairwise(ends)]


def _same_bracketed(gold: Node, answer: Node, policy: Policy) -> Rule:
    if isinstance(gold, Labelled) or isinstance(answer, Labelled):
        return _same_labelled(gold, answer, policy)
    if not isinstance(gold, Bracketed) or not isinstance(answer, Bracketed):
        return None
    if (gold.opening, gold.closing) != (answer.opening, answer.closing):
        return None
    return "tuple" if _all_same([_value(x) for x in gold.items], [_value(x) for x in answer.items], policy) else None


def _same_equation(gold: Node, answer: Node, policy: Policy) -> Rule:
    """An equation by its solutions; m + n = 7 is also the number 7."""
    if isinstance(gold, Quantity) and isinstance(answer, Relation) and names_a_number(answer):
        return same(gold, number_side(answer, read), policy)
    return same_relation(gold, answer)


# --- labels ----------------------------------------------------------------------------------------------------


def _same_labelled(gold: Node, answer: Node, policy: Policy) -> Rule:
    """x = 5 is 5, and 5 is x = 5; but x = 5 is not y = 5. f(z) = z is f(x) = x: an argument's name is free."""
    if isinstance(gold, Labelled) and isinstance(answer, Labelled):
        if _named_differently(gold, answer):
            return None
        answer = _with_argument_of(gold, answer)
        return same(gold.value, answer.value, policy) or same_relation(gold, answer)
    if isinstance(gold, Relation) or isinstance(answer, Relation):
        return same_relation(gold, answer)
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


RULES: tuple[tuple[type | tuple[type, ...], Callable[[Node, Node, Policy], Rule]], ...] = (
    (Words, same_words),
    (Clock, same_clock),
    (Region, _same_region),
    (Matrix, _same_matrix),
    (Items, _same_items),
    (Bracketed, _same_bracketed),
    (Relation, _same_equation),
    (Labelled, _same_labelled),
)
