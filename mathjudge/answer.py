"""What an answer can be: a number, words, a choice, a list, an interval, a matrix, an equation, a formula.

`reading.read` builds these nodes from text; `equal.same` compares them. Formulas stay text until they must be compared:
reading costs microseconds, and the LaTeX parser (milliseconds) runs only where nothing simpler decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from mathjudge.numbers import BaseDigits, Number


@dataclass(frozen=True)
class Quantity:
    """A number with its unit ("" if it has none); text: the number as it is written."""

    number: Number
    unit: str
    text: str


@dataclass(frozen=True)
class Words:
    """An answer in words, "odd"."""

    text: str


@dataclass(frozen=True)
class Choice:
    """An option of a multiple-choice question, with the text that may follow its letter."""

    letter: str
    rest: str


@dataclass(frozen=True)
class Clock:
    """A time of day; half: "a", "p" or ""."""

    hour: int
    minute: int
    second: int
    half: str


@dataclass(frozen=True)
class Formula:
    """Anything that is not another node: LaTeX for the parser, with its unit ("" if it has none)."""

    latex: str
    unit: str


@dataclass(frozen=True)
class Labelled:
    """`label = value`, or a variable and the interval that an inequality gives it. source: the text of the value."""

    label: str
    value: Node
    source: str


@dataclass(frozen=True)
class Chain:
    """a = b = c: it states its last side, and the sides before it must not contradict each other."""

    sides: tuple[Node, ...]


@dataclass(frozen=True)
class Relation:
    """Sides and the signs between them, where none of the sides is only a name."""

    sides: tuple[str, ...]
    signs: tuple[str, ...]


@dataclass(frozen=True)
class Bracketed:
    """A tuple, point, vector or interval: the order counts, and so do the brackets."""

    opening: str
    items: tuple[Node, ...]
    closing: str


@dataclass(frozen=True)
class Items:
    """A list or set; `ratio` marks a : b : c, `braces` a set that is written as one."""

    items: tuple[Node, ...]
    ratio: bool = False
    braces: bool = False


@dataclass(frozen=True)
class Region:
    """A union of intervals and sets; `complement`: all real numbers but these."""

    pieces: tuple[Node, ...]
    complement: bool = False


@dataclass(frozen=True)
class SetOperation:
    r"""The intersection or difference of two sets; sign: "\cap" or "\setminus"."""

    sign: str
    left: Node
    right: Node


@dataclass(frozen=True)
class Matrix:
    """A matrix by its rows, all of the same length."""

    rows: tuple[tuple[Node, ...], ...]


@dataclass(frozen=True)
class MatrixFormula:
    """A determinant, or sums, products, powers and transposes of matrices, not evaluated."""

    latex: str


Node: TypeAlias = (
    Quantity
    | Words
    | Choice
    | Clock
    | Formula
    | Labelled
    | Chain
    | Relation
    | Bracketed
    | Items
    | Region
    | SetOperation
    | Matrix
    | MatrixFormula
    | BaseDigits
)
