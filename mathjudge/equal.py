r"""Whether two answers are the same: one rule per kind of answer, the name of the rule that decided as evidence.

`same(reference, answer, policy)` takes nodes of `mathjudge.answer` and returns the name of the rule by which they are
equal, or None. Numbers are compared exactly; formulas by value (`symbolic`); structures part by part.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from typing import TypeAlias

from mathjudge import symbolic
from mathjudge.answer import (
    Bracketed,
    Chain,
    Choice,
    Clock,
    Formula,
    Items,
    Labelled,
    Matrix,
    MatrixFormula,
    Node,
    Quantity,
    Region,
    Relation,
    SetOperation,
    Words,
)
from mathjudge.equal_list import same_bracketed, same_items, same_ratio, same_repeated, unlabelled
from mathjudge.equal_matrix import evaluated, same_matrix
from mathjudge.equal_relation import same_relation
from mathjudge.equal_set import same_set
from mathjudge.equal_value import Rule, parsed, same_formula, same_quantity
from mathjudge.equal_words import same_clock, same_words
from mathjudge.normalise import squash
from mathjudge.numbers import BaseDigits
from mathjudge.policy import Policy
from mathjudge.reading import read
from mathjudge.relation import names_a_number, number_side

SINGLE = (Quantity, Formula, Words)
# A letter and nothing else, perhaps in text, brackets and with the word: "\text{Option C}", "(c)".
LETTER = re.compile(
    r"[\s{}().:]*(?:\\text)?[\s{}().:]*(?:option|choice|answer)?[\s{}().:]*([A-Za-z])[\s{}().:]*", re.IGNORECASE
)


def same(reference: Node, answer: Node, policy: Policy) -> Rule:
    """Return the rule by which `answer` equals `reference`, or None if it does not."""
    if isinstance(reference, Chain):
        return same(reference.sides[-1], answer, policy)
    if isinstance(answer, Chain):
        return same(reference, answer.sides[-1], policy) if _consistent(answer) else None
    if isinstance(reference, BaseDigits) or isinstance(answer, BaseDigits):
        return "base" if unlabelled(reference) == unlabelled(answer) else None
    if isinstance(reference, Choice) or isinstance(answer, Choice):
        return _same_choice(reference, answer, policy)
    if isinstance(reference, Quantity) and isinstance(answer, Quantity):
        return same_quantity(reference, answer, policy)
    if isinstance(answer, Items) and not answer.ratio and isinstance(unlabelled(reference), SINGLE):
        return same_repeated(reference, answer, policy, same)
    for kinds, rule in RULES:
        if isinstance(reference, kinds) or isinstance(answer, kinds):
            return rule(reference, answer, policy)
    return same_formula(reference, answer, policy)


# --- choices -----------------------------------------------------------------------------------------------------


def _same_choice(reference: Node, answer: Node, policy: Policy) -> Rule:
    """An option by its letter; or, if the reference answer is a value, by the text after the letter."""
    if isinstance(reference, Choice) and isinstance(answer, Choice):
        return "choice" if reference.letter == answer.letter else None
    choice, other = (reference, answer) if isinstance(reference, Choice) else (answer, reference)
    assert isinstance(choice, Choice)
    if isinstance(other, Words) or (isinstance(other, Formula) and not other.unit):
        text = other.text if isinstance(other, Words) else other.latex
        letter = LETTER.fullmatch(text)
        if letter and letter[1].upper() == choice.letter and letter[1] not in ("e", "i"):  # these are numbers
            return "choice"
    if isinstance(other, Labelled):
        return same(reference, other.value, policy) if other is answer else same(other.value, answer, policy)
    if not choice.rest:
        return None
    rest = read(choice.rest)
    if isinstance(rest, Choice):
        return None
    return same(rest, other, policy) if choice is reference else same(other, rest, policy)


# --- chains ------------------------------------------------------------------------------------------------------

EXACT = Policy()


def _consistent(chain: Chain) -> bool:
    """Whether no two neighbouring sides are different constants: x = 2 + 3 = 5 is consistent, x = 4 = 5 is not."""
    return not any(
        _is_constant(a) and _is_constant(b) and not same(a, b, EXACT) and not _rounded(a, b)
        for a, b in pairwise(chain.sides)
    )


def _is_constant(node: Node) -> bool:
    """Whether a node is a number, or a structure of numbers, without a unit that would have to be converted."""
    if isinstance(node, Quantity):
        return node.unit in ("", "%", "°")
    if isinstance(node, Formula):
        return not node.unit and (value := parsed(node)) is not None and not value.free_symbols
    if isinstance(node, Matrix | MatrixFormula):
        return (value := evaluated(node)) is not None and not value.free_symbols
    if isinstance(node, Bracketed | Items):
        return all(_is_constant(item) for item in node.items)
    return isinstance(node, Region) and all(_is_constant(piece) for piece in node.pieces)


def _rounded(a: Node, b: Node) -> bool:
    """Whether one side is a decimal that the other rounds or is cut to: 10/3 = 3.33 is no contradiction."""
    places = [node.number.places for node in (a, b) if isinstance(node, Quantity) and node.number.places]
    values = [symbolic.numeric_value(value) if (value := parsed(node)) is not None else None for node in (a, b)]
    if not places or values[0] is None or values[1] is None:
        return False
    return bool(abs(values[0] - values[1]) < symbolic.rational(Fraction(1, 10 ** min(places))))


# --- labels and equations ----------------------------------------------------------------------------------------


def _same_labelled(reference: Node, answer: Node, policy: Policy) -> Rule:
    """x = 5 is 5, and 5 is x = 5; but x = 5 is not y = 5. f(z) = z is f(x) = x: an argument's name is free."""
    if isinstance(reference, Labelled) and isinstance(answer, Labelled):
        if _named_differently(reference, answer):
            return None
        answer = _with_argument_of(reference, answer)
        return same(reference.value, answer.value, policy) or same_relation(reference, answer, policy)
    if any(isinstance(node, Relation) or _only_relations(node) for node in (reference, answer)):
        return same_relation(reference, answer, policy)
    return same(unlabelled(reference), unlabelled(answer), policy)


def _only_relations(node: Node) -> bool:
    """Whether a node is a list of equations or inequalities, such as "a < b and b < c"."""
    return isinstance(node, Items) and all(isinstance(item, Relation) for item in node.items)


def _named_differently(reference: Labelled, answer: Labelled) -> bool:
    """Whether two names differ: those of one letter, and sums or products with an ellipsis."""
    a, b = reference.label, answer.label
    if r"\dots" in a and r"\dots" in b:
        return squash(a) != squash(b)
    return len(a) == 1 == len(b) and a.lower() != b.lower()


def _with_argument_of(reference: Labelled, answer: Labelled) -> Labelled:
    """f(z) = z as f(x) = x and a_k = 2k as a_n = 2n, if the reference answer uses that name."""
    pattern = re.compile(r"(\w+'*)(?:\((\w)\)|_\{?([a-z])\}?)")
    theirs, ours = (pattern.fullmatch(node.label) for node in (answer, reference))
    if not theirs or not ours:
        return answer
    old, new = theirs[2] or theirs[3], ours[2] or ours[3]
    if old == new or bool(theirs[2]) != bool(ours[2]):
        return answer
    source = re.sub(rf"(?<![\\A-Za-z]){old}(?![A-Za-z])", new, answer.source)
    return Labelled(reference.label, read(source), source)


def _same_equation(reference: Node, answer: Node, policy: Policy) -> Rule:
    """An equation by its solutions; m + n = 7 is also the number 7, and an identity is its right side."""
    if isinstance(answer, Relation) and isinstance(reference, Quantity | Formula):
        if names_a_number(answer) and not _has_symbols(reference):
            return same(reference, number_side(answer, read), policy)
        if answer.signs == ("=",) and _is_identity(answer):
            return same(reference, read(answer.sides[1]), policy)
    return same_relation(reference, answer, policy)


def _has_symbols(node: Node) -> bool:
    return isinstance(node, Formula) and ((value := parsed(node)) is None or bool(value.free_symbols))


def _is_identity(equation: Relation) -> bool:
    """Whether both sides have the same symbols and the same value: x^2 + 2x + 1 = (x + 1)^2."""
    left, right = (parsed(read(side)) for side in equation.sides)
    if left is None or right is None or not left.free_symbols or left.free_symbols != right.free_symbols:
        return False
    return bool(symbolic.same_value(left, right))


def _same_members(reference: Node, answer: Node, policy: Policy) -> Rule:
    if any(isinstance(node, Items) and node.ratio for node in (reference, answer)):
        return same_ratio(reference, answer)
    if isinstance(reference, Relation) or isinstance(answer, Relation):
        return same_relation(reference, answer, policy)
    return same_items(reference, answer, policy, same)


Comparison: TypeAlias = Callable[[Node, Node, Policy], Rule]
RULES: tuple[tuple[type | tuple[type, ...], Comparison], ...] = (
    (Words, same_words),
    (Clock, same_clock),
    ((Region, SetOperation), lambda reference, answer, policy: same_set(reference, answer, policy, same)),
    ((Matrix, MatrixFormula), lambda reference, answer, policy: same_matrix(reference, answer, policy, same)),
    (Labelled, _same_labelled),
    (Items, _same_members),
    (Bracketed, lambda reference, answer, policy: same_bracketed(reference, answer, policy, same)),
    (Relation, _same_equation),
)
"""What compares a pair of which at least one is of a kind; the first that fits decides."""
