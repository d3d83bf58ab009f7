r"""Equality of sets of real numbers: unions, intersections, differences and complements of intervals and points.

Two sets are equal if their pieces pair off as they are written. If they do not, and all endpoints are numbers, both
are brought to one form: disjoint spans in ascending order.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, TypeAlias

from mathjudge import symbolic
from mathjudge.answer import Bracketed, Formula, Items, Labelled, Node, Quantity, Region, SetOperation
from mathjudge.equal_list import all_same, matched
from mathjudge.equal_value import Rule, Same, parsed
from mathjudge.policy import Policy

REALS = (r"\mathbb{R}", r"\mathbb R")
INFINITE = 10**9
"""Stands for infinity next to the numbers of SymPy that endpoints are sorted by."""


@dataclass(frozen=True)
class End:
    """An endpoint. value: its number, by which it is sorted; after: 0 just before the number, 1 just after it.

    The interval [1, 2) has the ends (1, 0) and (2, 0), the interval (1, 2] the ends (1, 1) and (2, 1): what starts
    before a number contains it, what ends after it too. So an open and a closed end need no further cases.
    """

    value: Any
    after: int
    node: Node


Spans: TypeAlias = list[tuple[End, End]]
LOWEST = End(-INFINITE, 1, Formula(r"-\infty", ""))
HIGHEST = End(INFINITE, 0, Formula(r"\infty", ""))


def same_set(reference: Node, answer: Node, policy: Policy, same: Same) -> Rule:
    """Whether two sets have the same members; see the module's docstring."""
    if any(len(_variables(node)) > 1 for node in (reference, answer)):
        return None
    left, right = pieces(reference), pieces(answer)
    if left and right and matched(left, right, policy, same):
        return "interval"
    if (members := _finite(reference, answer, policy, same)) is not None:
        return "set" if members else None
    spans = [_spans(node) for node in (reference, answer)]
    if spans[0] is not None and spans[1] is not None:
        return "interval" if _same_spans(spans[0], spans[1], policy, same) else None
    return _same_operation(reference, answer, policy, same)


def _variables(node: Node) -> set[str]:
    """The variables that the members of a list bound: x < 0, y > 1 is no set of numbers."""
    return {item.label for item in node.items if isinstance(item, Labelled)} if isinstance(node, Items) else set()


def pieces(node: Node) -> list[Node] | None:
    """The intervals and isolated points that a set is written as, or None for nodes that are no set."""
    if isinstance(node, Labelled):
        return pieces(node.value)
    if isinstance(node, Region):
        parts = _gaps(node) if node.complement else list(node.pieces)
        return [p for part in parts for p in (pieces(part) or [part])]
    if isinstance(node, Items):
        return [p for item in node.items for p in (pieces(item) or [item])]
    return [node] if isinstance(node, Bracketed) else None


def _gaps(region: Region) -> list[Node]:
    """The real numbers without some points, as open intervals; points without an order stay one excluded tuple."""
    points = [point for piece in region.pieces for point in (piece.items if isinstance(piece, Items) else (piece,))]
    if not all(isinstance(point, Quantity) for point in points):
        return [Bracketed("excluded", tuple(points), "")] if len(points) > 1 else _around(points)
    ordered: list[Node] = sorted(points, key=lambda q: q.number.value)  # type: ignore[union-attr]
    return _around(ordered)


def _around(points: list[Node]) -> list[Node]:
    ends: list[Node] = [LOWEST.node, *points, HIGHEST.node]
    return [Bracketed("(", (low, high), ")") for low, high in itertools.pairwise(ends)]


# --- finite sets -------------------------------------------------------------------------------------------------


def _finite(reference: Node, answer: Node, policy: Policy, same: Same) -> bool | None:
    """Whether two finite sets are equal, member by member; None if one of them is not finite."""
    left, right = _members(reference, policy, same), _members(answer, policy, same)
    if left is None or right is None:
        return None
    return all(_contains(right, member, policy, same) for member in left) and all(
        any(same(other, member, policy) for other in left) for member in right
    )


def _contains(members: list[Node], member: Node, policy: Policy, same: Same) -> bool:
    return any(same(member, other, policy) for other in members)


def _members(node: Node, policy: Policy, same: Same) -> list[Node] | None:
    r"""The members of \{1, 2\} \cup \{3\} and the like; None if a part is no set in braces."""
    if isinstance(node, Labelled):
        return _members(node.value, policy, same)
    if isinstance(node, Items) and node.braces:
        return list(node.items)
    if isinstance(node, Formula) and node.latex.strip() == r"\emptyset":
        return []
    if isinstance(node, Region) and not node.complement:
        parts = [_members(piece, policy, same) for piece in node.pieces]
        return None if any(part is None for part in parts) else [m for part in parts for m in part or []]
    if isinstance(node, SetOperation):
        left, right = _members(node.left, policy, same), _members(node.right, policy, same)
        if left is None or right is None:
            return None
        kept = node.sign == r"\cap"
        return [member for member in left if _contains(right, member, policy, same) is kept]
    return None


# --- spans of real numbers ---------------------------------------------------------------------------------------


def _spans(node: Node) -> Spans | None:
    """The disjoint spans of a set in ascending order; None if it is no set of numbers or an endpoint has no value."""
    if isinstance(node, Labelled):
        return _spans(node.value)
    if isinstance(node, Region):
        parts = [_spans(piece) for piece in node.pieces]
        if any(part is None for part in parts):
            return None
        union = _union([span for part in parts for span in part or []])
        return _complement(union) if node.complement else union
    if isinstance(node, SetOperation):
        left, right = _spans(node.left), _spans(node.right)
        if left is None or right is None:
            return None
        return _intersection(left, right if node.sign == r"\cap" else _complement(right))
    if isinstance(node, Items) and not node.ratio:
        return _spans(Region(node.items))
    if isinstance(node, Bracketed):
        return _interval(node)
    if isinstance(node, Formula) and node.latex.strip() in (r"\emptyset", *REALS):
        return [] if "emptyset" in node.latex else [(LOWEST, HIGHEST)]
    point = _number(node)
    return None if point is None else [(End(point, 0, node), End(point, 1, node))]


def _interval(node: Bracketed) -> Spans | None:
    if node.opening not in ("(", "[") or node.closing not in (")", "]") or len(node.items) != 2:
        return None
    low, high = (_number(item) for item in node.items)
    if low is None or high is None:
        return None
    start, end = End(low, int(node.opening == "("), node.items[0]), End(high, int(node.closing == "]"), node.items[1])
    start, end = (LOWEST if low == -INFINITE else start), (HIGHEST if high == INFINITE else end)
    return [(start, end)] if _key(start) < _key(end) else []


def _number(node: Node) -> Any | None:
    """The value of an endpoint as a number that can be sorted; None for anything with symbols."""
    if isinstance(node, Formula) and node.latex.replace(" ", "") in (r"\infty", r"-\infty"):
        return -INFINITE if "-" in node.latex else INFINITE
    if not isinstance(node, Quantity | Formula) or node.unit:
        return None
    expression = parsed(node)
    return None if expression is None else symbolic.numeric_value(expression)


def _key(end: End) -> tuple[Any, int]:
    """Sort by value, then by side; values that agree to 25 digits are one value."""
    import sympy

    return (sympy.Float(end.value, 25) if end.value not in (INFINITE, -INFINITE) else end.value, end.after)


def _union(spans: Spans) -> Spans:
    merged: Spans = []
    for start, end in sorted(spans, key=lambda span: _key(span[0])):
        if merged and _key(start) <= _key(merged[-1][1]):
            merged[-1] = (merged[-1][0], max(merged[-1][1], end, key=_key))
        else:
            merged.append((start, end))
    return merged


def _complement(spans: Spans) -> Spans:
    ends = [LOWEST, *(end for span in spans for end in span), HIGHEST]
    return [(a, b) for a, b in zip(ends[::2], ends[1::2], strict=True) if _key(a) < _key(b)]


def _intersection(left: Spans, right: Spans) -> Spans:
    return _complement(_union([*_complement(left), *_complement(right)]))


def _same_spans(reference: Spans, answer: Spans, policy: Policy, same: Same) -> bool:
    ends = [[end for span in spans for end in span] for spans in (reference, answer)]
    if [end.after for end in ends[0]] != [end.after for end in ends[1]]:
        return False
    return all_same([end.node for end in ends[0]], [end.node for end in ends[1]], policy, same)


# --- sets that have no spans -------------------------------------------------------------------------------------


def _same_operation(reference: Node, answer: Node, policy: Policy, same: Same) -> Rule:
    r"""\mathbb{Z} \setminus \{0\} as it is written, part by part."""
    left, right = (node.value if isinstance(node, Labelled) else node for node in (reference, answer))
    if not isinstance(left, SetOperation) or not isinstance(right, SetOperation) or left.sign != right.sign:
        return None
    return "set" if same(left.left, right.left, policy) and same(left.right, right.right, policy) else None
