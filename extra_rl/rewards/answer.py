r"""What an answer is: a number, words, a list, an interval, a matrix, an equation, a formula. Text in, nodes out.

`read` builds a small tree from text cleaned by `normalise.clean`. Formulas stay text until they must be compared, so
that reading costs microseconds and the LaTeX parser (milliseconds) runs only where nothing simpler decides.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import TypeAlias

from extra_rl.rewards.braces import braced, levels, split_top
from extra_rl.rewards.numbers import BaseDigits, Number, read_base, read_number
from extra_rl.rewards.units import split_unit, strip_leading_text

SEPARATOR = "\x1f"  # stands for "and" and "or" between answers
MAX_ITEMS = 500
MAX_DEPTH = 12


@dataclass(frozen=True)
class Quantity:
    number: Number
    unit: str
    text: str


@dataclass(frozen=True)
class Words:
    text: str


@dataclass(frozen=True)
class Choice:
    """An option of a multiple-choice question, with the text that may follow its letter."""

    letter: str
    rest: str


@dataclass(frozen=True)
class Formula:
    latex: str
    unit: str


@dataclass(frozen=True)
class Labelled:
    """`label = value`, or a variable and the interval that an inequality gives it."""

    label: str
    value: Node
    source: str


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
    """A list or set; `ratio` marks a : b : c."""

    items: tuple[Node, ...]
    ratio: bool = False


@dataclass(frozen=True)
class Region:
    """A union of intervals and sets; `complement`: everything but these."""

    pieces: tuple[Node, ...]
    complement: bool = False


@dataclass(frozen=True)
class Matrix:
    rows: tuple[tuple[Node, ...], ...]


Node: TypeAlias = (
    Quantity | Words | Choice | Formula | Labelled | Relation | Bracketed | Items | Region | Matrix | BaseDigits
)

CHOICE = re.compile(
    r"(?:\\text\s*\{\s*)?(?:\(\s*(?P<a>[A-Z])\s*\)|(?P<b>[A-Z])(?=\s*(?:[.:)]|\}|$)))\s*[.:)]?\s*\}?\s*[.:]?\s*(?P<rest>.*)",
    re.DOTALL,
)
CONDITION = re.compile(
    r"[\s,;(]*(?:\\forall|(?:\\text\s*\{\s*)?(?<![A-Za-z\\])(?:for\s+(?:all|any|every|each|some)|where|when|such that)\b).*$",
    re.DOTALL,
)
PARAMETER = re.compile(r"\s*[,;(]\s*\(?\s*[a-z](?:\s*,\s*[a-z])*\s*\\in\s*\\mathbb\s*\{?\s*[ZNQR]\s*\}?.*$", re.DOTALL)
CONNECTOR = re.compile(
    r"\s*(?:\\text\s*\{\s*,?\s*(?:and|or)\s*,?\s*\}|\\(?:lor|vee|land|wedge)(?![a-z])|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z]))\s*"
)
SIGNS = re.compile(r"\\(?:le|ge|ne|in)(?![A-Za-z])|[<>=]")
NAME = r"\\?[A-Za-z]+(?:_(?:\{[^{}]*\}|\w))?'*"
LABEL = re.compile(
    r"""\s*(?:
        (?:\\(?:angle|triangle|overline|vec|measuredangle|widehat|hat|bar)\s*|m(?=\\angle))*\{?\s*
        (?:\\?[a-zA-Z](?:_(?:\{[^{}]*\}|\w))?'*(?:\([^()=]*\))?   # x, x_1, f', f(x), P(x, y)
          |[A-Z](?:_(?:\{[^{}]*\}|\w))?(?:\s*[A-Z](?:_(?:\{[^{}]*\}|\w))?)*(?:\([^()=]*\))?   # AB, A_1B
          |\\(?:alpha|beta|gamma|theta|lambda|mu|rho|phi|omega|sigma|tau|epsilon|delta)(?:_(?:\{[^{}]*\}|\w))?
          |\\text\s*\{[^{}]*\}(?:_(?:\{[^{}]*\}|\w))?)\s*\}?
    )\s*""",
    re.VERBOSE,
)
WORD_LABEL = re.compile(r"\s*(?:\\text\s*\{\s*)?([A-Za-z][A-Za-z ]{2,}?)\s*(?:\}\s*)?[:=]\s*(?:\}\s*)?(?=\S)(?!.*\\in)")
FLIP = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}
MATRIX = re.compile(
    r"^[\s([|]*\\begin\{(p|b|v|V|B|small)?(?:matrix|array)\}(?:\s*\{[lcr|\s]*\})?(.*)\\end\{(?:\1)?(?:matrix|array)\}[\s)\]|]*$",
    re.DOTALL,
)
ALL_REALS = re.compile(r"(?:\\mathbb\s*\{?\s*R\s*\}?|(?:\\text\s*\{)?\s*all real numbers\s*\}?)", re.IGNORECASE)


def read(text: str, depth: int = 0) -> Node:
    """The node of a cleaned answer. Never fails: what is not understood is a Formula."""
    text = text.strip()
    text = re.split(r"\\approx|\\simeq|\\equiv(?=.*\\pmod)", text, maxsplit=1)[0].strip() or text
    if depth > MAX_DEPTH:
        return Formula(text, "")
    for reader in (_base, _choice, _matrix, _number):
        if node := reader(text):
            return node
    text = strip_leading_text(text)
    text = _strip_condition(text)
    text = CONNECTOR.sub(SEPARATOR, _open_texts(text)).strip(SEPARATOR + " ")
    for structure in (_list, _set, _signs_of, _bracketed, _region, _relation, _word_label, _ratio):
        if node := structure(text, depth + 1):
            return node
    return _leaf(text)


def _base(text: str) -> Node | None:
    digits = read_base(text)
    if digits is None or digits.base != 10:
        return digits
    number = read_number(digits.digits)
    return Quantity(number, "", text) if number else None


def _choice(text: str) -> Node | None:
    match = CHOICE.fullmatch(text)
    if not match:
        return None
    rest = match["rest"].strip()
    if rest and not (match["a"] or re.match(r"(?:\\text\s*\{\s*)?[A-Z]\s*[.:)}]", text)):
        return None
    if rest.startswith(("^", "_", "=", "+", "-", "\\cdot", "\\cup", "<", ">", "/", "|", ",", "\\in")):
        return None
    return Choice(match["a"] or match["b"], rest)


def _matrix(text: str) -> Node | None:
    match = MATRIX.match(text)
    if not match or (match[1] in ("v", "V")) or text.lstrip().startswith("|"):
        return None
    rows = [row for row in re.split(r"\\\\(?:\[[^\]]*\])?", match[2].replace("\\hline", "")) if row.strip()]
    cells = [tuple(read(cell.strip(), 1) for cell in row.split("&")) for row in rows]
    return Matrix(tuple(cells)) if cells and len({len(row) for row in cells}) == 1 else None


def _number(text: str) -> Node | None:
    core, unit = split_unit(text)
    number = read_number(core)
    return Quantity(number, unit, core) if number else None


def _strip_condition(text: str) -> str:
    r"""Drop "for all x > 0", "where k \in \mathbb{Z}" after an answer."""
    for pattern in (CONDITION, PARAMETER):
        shorter = pattern.sub("", text)
        if shorter.strip():
            text = shorter
    return text.strip(" ,;")


def _open_texts(text: str) -> str:
    r"""`\text{goats and }` as `\text{goats} and `: a connector inside a text command separates answers too."""
    return re.sub(
        r"\\text\s*\{([^{}]*)\}",
        lambda m: r" \text{" + re.sub(r"\s*,?\s*\b(and|or)\b\s*", r"} \1 \\text{", m[1]) + "} ",
        text,
    ).replace(r"\text{}", "")


def _list(text: str, depth: int) -> Node | None:
    parts = [part.strip() for part in split_top(text, ",;" + SEPARATOR) if part.strip()]
    if len(parts) < 2 or len(parts) > MAX_ITEMS:
        return None
    nodes: list[Node] = []
    for part in parts:
        node = read(part, depth)
        if isinstance(node, Labelled) and isinstance(node.value, Items):
            nodes.extend(Labelled(node.label, value, node.source) for value in node.value.items)
        elif isinstance(node, Items) and not node.ratio:
            nodes.extend(node.items)
        else:
            nodes.append(node)
    return Items(_group(nodes))


def _group(nodes: list[Node]) -> tuple[Node, ...]:
    """p = 5, q = 2, p = 7, q = 2 as the tuples (5, 2), (7, 2): labels that repeat in the same order."""
    labels = [node.label for node in nodes if isinstance(node, Labelled)]
    names = list(dict.fromkeys(labels))
    width = len(names)
    if len(labels) != len(nodes) or width < 2 or len(nodes) <= width or labels != names * (len(nodes) // width):
        return tuple(nodes)
    values = [node.value for node in nodes if isinstance(node, Labelled)]
    return tuple(Bracketed("(", tuple(values[n : n + width]), ")") for n in range(0, len(values), width))


def _set(text: str, depth: int) -> Node | None:
    r"""\{a, b\} and \{x | condition\}."""
    if not (text.startswith("\\{") and text.endswith("\\}") and _closes_at_end(text[1:-2] + "}")):
        return None
    inner = text[2:-2]
    builder = re.split(r"\||:(?!=)", inner, maxsplit=1)
    if len(builder) == 2 and re.fullmatch(r"\s*[a-zA-Z](?:_\w)?(?:\s*\\in.*)?\s*", builder[0]):
        node = read(builder[1], depth)
        return node.value if isinstance(node, Labelled) else node
    node = read(inner, depth)
    return node if isinstance(node, Items) else Items((node,))


def _signs_of(text: str, depth: int) -> Node | None:
    r"""a \pm b as two answers; in a tuple each element chooses its sign on its own."""
    if r"\pm" not in text or SIGNS.search(text):
        return None
    if _is_bracketed(text):
        elements = [_both_signs(part) for part in split_top(text[1:-1], ",")]
        variants = list(itertools.islice(itertools.product(*elements), 64))
        return Items(tuple(read(text[0] + ",".join(v) + text[-1], depth) for v in variants))
    return Items(tuple(read(variant, depth) for variant in _both_signs(text)))


def _both_signs(text: str) -> list[str]:
    if r"\pm" not in text:
        return [text]
    plus = re.sub(r"\\mp\s*", "-", re.sub(r"\\pm\s*", "+", text)).strip().removeprefix("+")
    return [plus, re.sub(r"\\mp\s*", "+", re.sub(r"\\pm\s*", "-", text))]


def _closes_at_end(text: str) -> bool:
    return bool(text) and text[0] in "{([" and braced(text, 0) == len(text) - 1


def _is_bracketed(text: str) -> bool:
    """One pair of brackets of any kind, half-open intervals included, around the whole text."""
    if len(text) < 2 or text[0] not in "([" or text[-1] not in ")]":
        return False
    return all(depth > 0 for at, _, depth in levels(text) if 0 < at < len(text) - 1)


def _bracketed(text: str, depth: int) -> Node | None:
    text = re.sub(r"^\\langle|^\\lgroup", "(", re.sub(r"\\rangle$|\\rgroup$", ")", text))
    if not _is_bracketed(text):
        return None
    parts = split_top(text[1:-1], ",;")
    if len(parts) == 1:
        return read(text[1:-1], depth) if text[0] + text[-1] in ("()", "[]") else None
    if len(parts) > MAX_ITEMS or any(not part.strip() for part in parts):
        return None
    return Bracketed(text[0], tuple(read(part, depth) for part in parts), text[-1])


def _region(text: str, depth: int) -> Node | None:
    if ALL_REALS.fullmatch(text.strip()):
        return _interval("(", "-\\infty", "\\infty", ")")
    if without := re.fullmatch(r"\s*\\mathbb\s*\{?\s*R\s*\}?\s*(?:\\setminus|\\backslash|-)\s*(\\\{.*\\\})", text):
        points = read(without[1], depth)
        return Region(points.items, complement=True) if isinstance(points, Items) else None
    pieces = _split_command(text, "cup")
    if len(pieces) < 2 or SIGNS.search(pieces[0]):
        return None
    return Region(tuple(read(piece, depth) for piece in pieces))


def _split_command(text: str, command: str) -> list[str]:
    mark = "\x1e"
    return split_top(re.sub(rf"\\{command}(?![a-z])", mark, text), mark)


def _interval(opening: str, low: str, high: str, closing: str) -> Bracketed:
    return Bracketed(opening, (read(low, 1), read(high, 1)), closing)


def split_relation(text: str) -> tuple[list[str], list[str]]:
    """The sides and the signs of a relation at the top level."""
    depth_at = {at: depth for at, _, depth in levels(text)}
    sides: list[str] = []
    signs: list[str] = []
    start = 0
    for match in SIGNS.finditer(text):
        if depth_at[match.start()] == 0:
            sides.append(text[start : match.start()].strip())
            signs.append(match[0])
            start = match.end()
    return [*sides, text[start:].strip()], signs


def is_label(text: str) -> bool:
    r"""Whether a side only names what the other side says: x, x_1, f(x), AB, |AB|, A:B, \frac{NO}{BO}, (x, y)."""
    text = text.strip()
    if fraction := re.fullmatch(r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", text):
        return all(
            re.fullmatch(r"\s*[A-Z](?:_\{?\w+\}?)?\s*[A-Z]?(?:_\{?\w+\}?)?\s*", part) for part in fraction.groups()
        )
    if bars := re.fullmatch(r"\|([^|]*)\|", text):
        return bool(re.fullmatch(r"\s*[A-Z]{2}\s*", bars[1]))
    if ":" in text:
        return all(is_label(part) for part in text.split(":"))
    if text.startswith("(") and _is_bracketed(text) and "," in text:
        return all(is_label(part) for part in split_top(text[1:-1], ","))
    return bool(LABEL.fullmatch(text)) and text not in ("e", "i", r"\pi", "\\infty")


def _relation(text: str, depth: int) -> Node | None:
    sides, signs = split_relation(text)
    if not signs or any(not side for side in sides):
        return None
    if set(signs) == {"="}:
        return _equality(sides, depth)
    if signs == [r"\in"] and is_label(sides[0]):
        return Labelled(_name(sides[0]), read(sides[1], depth), sides[1])
    if signs == [r"\ne"]:
        name, other = (sides[0], sides[1]) if is_label(sides[0]) else (sides[1], sides[0])
        if is_label(name):
            return Labelled(_name(name), Region((read(other, depth),), complement=True), text)
    if set(signs) <= set(FLIP) and (inequality := _inequality(sides, signs, text)):
        return inequality
    return Relation(tuple(sides), tuple(signs))


def _equality(sides: list[str], depth: int) -> Node:
    """label = value; a chain of equalities ends in its value; anything else is an equation."""
    if is_label(sides[0]):
        if is_label(sides[-1]) and len(sides) == 2 and "(" not in sides[0] and len(sides[1]) == 1 == len(sides[0]):
            return Relation(tuple(sides), ("=",))
        return Labelled(_name(sides[0]), read(sides[-1], depth), sides[-1])
    if len(sides) == 2 and is_label(sides[1]):
        return Labelled(_name(sides[1]), read(sides[0], depth), sides[0])
    if len(sides) > 2 or all(_is_numeric(side) for side in sides):
        return read(sides[-1], depth)
    return Relation(tuple(sides), ("=",))


def _is_numeric(side: str) -> bool:
    """Whether a side of a calculation has no symbols: e and i are numbers, functions are commands."""
    letters = re.sub(r"\\(?!theta|rho|alpha|beta|lambda|phi|omega|mu|sigma|text)[A-Za-z]+", " ", side)
    return not re.search(r"[A-Za-df-hj-z]", letters)


def _inequality(sides: list[str], signs: list[str], text: str) -> Node | None:
    """The interval that an inequality gives its variable, if one side is only the variable."""
    if len(sides) == 3 and is_label(sides[1]) and not (is_label(sides[0]) and is_label(sides[2]) and "(" in text):
        if all(sign in ("<", r"\le") for sign in signs):
            low, high, (left, right) = sides[0], sides[2], signs
        elif all(sign in (">", r"\ge") for sign in signs):
            low, high, (right, left) = sides[2], sides[0], signs
        else:
            return None
        value = _interval("(" if len(left) == 1 else "[", low, high, ")" if len(right) == 1 else "]")
        return Labelled(_name(sides[1]), value, text)
    if len(sides) != 2 or is_label(sides[0]) == is_label(sides[1]):
        return None
    name, sign, bound = (sides[0], signs[0], sides[1]) if is_label(sides[0]) else (sides[1], FLIP[signs[0]], sides[0])
    if sign in ("<", r"\le"):
        value = _interval("(", "-\\infty", bound, ")" if sign == "<" else "]")
    else:
        value = _interval("(" if sign == ">" else "[", bound, "\\infty", ")")
    return Labelled(_name(name), value, text)


def _name(label: str) -> str:
    return re.sub(r"\\text\s*|[\s{}]", "", label)


def _word_label(text: str, depth: int) -> Node | None:
    match = WORD_LABEL.match(text)
    return Labelled(match[1].strip(), read(text[match.end() :], depth), text) if match else None


def _ratio(text: str, depth: int) -> Node | None:
    parts = split_top(text, ":")
    if len(parts) < 2 or any(not part.strip() for part in parts) or "\\text" in text:
        return None
    return Items(tuple(read(part, depth) for part in parts), ratio=True)


def _leaf(text: str) -> Node:
    core, unit = split_unit(text)
    if number := read_number(core):
        return Quantity(number, unit, core)
    words = re.sub(r"\\text\s*\{([^{}]*)\}", r" \1 ", text).strip()
    if re.fullmatch(r"(?:[^\W\d_]|[\s.,'’\"!?-])+", words) and (
        len(re.sub(r"\W", "", words)) >= 3 or "\\text" in text or not words.isascii()
    ):
        return Words(words)
    return Formula(core.strip(), unit)
