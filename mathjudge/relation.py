r"""Equalities and inequalities: what names a value (x = 5), what bounds one (0 < x < 1), what is an equation."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

from mathjudge.answer import Bracketed, Chain, Labelled, Node, Region, Relation
from mathjudge.braces import is_bracketed, levels, split_top
from mathjudge.units import split_unit

SIGNS = re.compile(r"\\(?:le|ge|ne|in)(?![A-Za-z])|[<>=]")
GREEK = r"\\(?:alpha|beta|gamma|theta|lambda|mu|rho|phi|omega|sigma|tau|epsilon|delta)"
INDEX = r"(?:_(?:\{[^{}]*\}|\w))?"
SEGMENT = r"\s*[A-Z](?:_\{?\w+\}?)?\s*[A-Z]?(?:_\{?\w+\}?)?\s*"
LABEL = re.compile(
    rf"""\s*(?:
        (?:\\(?:angle|triangle|overline|vec|measuredangle|widehat|hat|bar|overrightarrow)\s*|m(?=\\angle))*\{{?\s*
        (?:\\?[a-zA-Z]{INDEX}'*(?:\([^()=]*\))?   # x, x_1, f', f(x), P(x, y)
          |[A-Z]{INDEX}(?:\s*[A-Z]{INDEX})*(?:\([^()=]*\))?   # AB, A_1B
          |{GREEK}{INDEX}
          |(?:\\mathbb\s*\{{?\s*)?[A-Z]\s*\}}?\s*(?:\([^()]*\)|\[[^\[\]]*\])   # P(X > 2), E[X]
          |\[\s*[A-Z]{{3,}}\s*\]   # [ABC], an area
          |\\text\s*\{{[^{{}}]*\}}{INDEX}\s*(?:\([^()]*\)|\[[^\[\]]*\])?
          |\\(?:max|min|sin|cos|tan|cot|det|gcd|lcm)\s*(?:\(?\s*(?:[A-Za-z](?:,\s*[A-Za-z])*|{GREEK})\s*\)?)?
          |[A-Z]'?(?:\s*\\(?:cap|cup|setminus)(?![a-z])\s*[A-Z]'?)+   # A \cap B
          |\|\s*(?:\\(?:vec|overrightarrow|text)\s*\{{[^{{}}]*\}}|[A-Zzw])\s*\|   # |\vec{{a}}|, |z|
          |\\\|\s*(?:\\[a-z]+\s*\{{[^{{}}]*\}}|[A-Za-z])\s*\\\|   # \|v\|
          |\\frac\s*\{{\s*(?:d|\\partial)\s*[a-zA-Z]?\s*\}}\s*\{{\s*(?:d|\\partial)\s*[a-zA-Z]\s*\}}(?:\s*[a-zA-Z](?:\([a-z]\))?)?
          |d[a-zA-Z]\s*/\s*d[a-zA-Z])\s*\}}?
    )\s*""",
    re.VERBOSE,
)
DENIAL = re.compile(r"\b(?:not|wrong|incorrect|false|never)\b", re.IGNORECASE)
FLIP = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}
NAMES = {
    **dict.fromkeys(("max", "maximum", "largest", "greatest", "highest"), "max"),
    **dict.fromkeys(("min", "minimum", "smallest", "least", "lowest"), "min"),
}
Reader: TypeAlias = Callable[[str], Node]


def interval(opening: str, low: str, high: str, closing: str, read: Reader) -> Bracketed:
    """Return the interval between two endpoints that are still text."""
    return Bracketed(opening, (read(low), read(high)), closing)


def split_relation(text: str) -> tuple[list[str], list[str]]:
    """Return the sides and the signs of a relation at the top level."""
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
    r"""Whether a side only names what the other side is: x, x_1, f(x), AB, |AB|, A:B, \frac{NO}{BO}, (x, y)."""
    text = text.strip()
    if DENIAL.search(text):
        return False
    if re.fullmatch(rf"\\frac\s*\{{{SEGMENT}\}}\s*\{{{SEGMENT}\}}|\|\s*[A-Z]{{2}}\s*\|", text):
        return True
    if ":" in text:
        return all(is_label(part) for part in text.split(":"))
    if text.startswith("(") and is_bracketed(text) and "," in text:
        return all(is_label(part) or part.strip() == r"\dots" for part in split_top(text[1:-1], ","))
    return bool(LABEL.fullmatch(text)) and text not in ("e", "i", r"\pi", "\\infty")


def read_relation(text: str, read: Reader) -> Node | None:
    """Return the node of a text with a relation sign outside all brackets, or None without one."""
    sides, signs = split_relation(text)
    if not signs or any(not side for side in sides):
        return None
    if set(signs) == {"="}:
        return _equality(sides, read)
    if signs == [r"\in"] and is_label(sides[0]):
        return Labelled(label_name(sides[0]), read(sides[1]), sides[1])
    if signs == [r"\ne"]:
        name, other = (sides[0], sides[1]) if is_label(sides[0]) else (sides[1], sides[0])
        if is_label(name):
            return Labelled(label_name(name), Region((read(other),), complement=True), text)
    if set(signs) <= set(FLIP) and (inequality := _inequality(sides, signs, text, read)):
        return inequality
    return Relation(tuple(sides), tuple(signs))


def _equality(sides: list[str], read: Reader) -> Node:
    """label = value; a chain of equalities, which states its last side; anything else is an equation."""
    if is_label(sides[0]):
        if is_label(sides[-1]) and len(sides) == 2 and "(" not in sides[0] and len(sides[1]) == 1 == len(sides[0]):
            return Relation(tuple(sides), ("=",))
        return Labelled(label_name(sides[0]), _chain(sides[1:], read), sides[-1])
    if len(sides) == 2 and is_label(sides[1]):
        return Labelled(label_name(sides[1]), read(sides[0]), sides[0])
    if defined := _ellipsis(sides, read):
        return defined
    if (
        len(sides) > 2
        or all(_is_numeric(split_unit(side)[0]) for side in sides)
        or any("\\begin{" in side for side in sides)
    ):
        return _chain(sides, read)
    return Relation(tuple(sides), ("=",))


def _chain(sides: list[str], read: Reader) -> Node:
    return Chain(tuple(read(side) for side in sides)) if len(sides) > 1 else read(sides[0])


def _ellipsis(sides: list[str], read: Reader) -> Node | None:
    r"""1 + 3 + \dots + (2n-1) = n^2: a side with an ellipsis names what the other side is."""
    dotted = [side for side in sides if r"\dots" in side]
    if len(sides) != 2 or len(dotted) != 1:
        return None
    value = sides[1] if dotted[0] is sides[0] else sides[0]
    return Labelled(label_name(dotted[0]), read(value), value)


def names_a_number(relation: Relation) -> bool:
    r"""Whether the left side only names the number on the right: m+n = 7, \lim_{x \to 0} f(x) = 7.

    It has two names or more and no number of its own: 2x = 10, x^2 = 4 and x + 1 = 6 are equations to be solved.
    """
    side, number = relation.sides[0], relation.sides[-1]
    if _is_numeric(side):
        side, number = number, side
    if set(relation.signs) != {"="} or len(relation.sides) != 2 or not _is_numeric(number) or number.strip() == "0":
        return False
    if re.match(r"\s*\\(?:lim|sum|max|min|int|prod|sup|inf|det|gcd|lcm)(?![a-z])", side):
        return True
    bare = re.sub(r"_(?:\{[^{}]*\}|\w)|\\text\s*\{[^{}]*\}", "", side)
    products = re.findall(r"(?<![A-Za-z])[A-Za-z]{1,3}(?![A-Za-z])", re.sub(r"\\[a-z]+", " ", bare))  # longer: a word
    names = {letter for product in products for letter in product} | set(re.findall(GREEK, bare))
    if DENIAL.search(bare):
        return False
    return len(names) > 1 and not re.search(r"\d", bare)


def number_side(relation: Relation, read: Reader) -> Node:
    """Return the number of an equation for which `names_a_number` holds."""
    return read(relation.sides[0] if _is_numeric(relation.sides[0]) else relation.sides[-1])


def _is_numeric(side: str) -> bool:
    """Whether a side of a calculation has no symbols: e and i are numbers, functions are commands."""
    letters = re.sub(r"\\(?:begin|end)\{[a-zA-Z*]+\}", " ", side)
    letters = re.sub(r"\\(?!theta|rho|alpha|beta|lambda|phi|omega|mu|sigma|text)[A-Za-z]+", " ", letters)
    return not re.search(r"[A-Za-df-hj-z]", letters)


def _inequality(sides: list[str], signs: list[str], text: str, read: Reader) -> Node | None:
    """Return the interval that an inequality gives its variable, if one side is only the variable.

    f(2) < f(1) < f(4) is no interval but an order of three names.
    """
    order = all(is_label(side) and "(" in side for side in sides)
    if len(sides) == 3 and is_label(sides[1]) and not order:
        if all(sign in ("<", r"\le") for sign in signs):
            low, high, (left, right) = sides[0], sides[2], signs
        elif all(sign in (">", r"\ge") for sign in signs):
            low, high, (right, left) = sides[2], sides[0], signs
        else:
            return None
        value = interval("(" if len(left) == 1 else "[", low, high, ")" if len(right) == 1 else "]", read)
        return Labelled(label_name(sides[1]), value, text)
    if len(sides) != 2 or is_label(sides[0]) == is_label(sides[1]):
        return None
    name, sign, bound = (sides[0], signs[0], sides[1]) if is_label(sides[0]) else (sides[1], FLIP[signs[0]], sides[0])
    if sign in ("<", r"\le"):
        value = interval("(", "-\\infty", bound, ")" if sign == "<" else "]", read)
    else:
        value = interval("(" if sign == ">" else "[", bound, "\\infty", ")", read)
    return Labelled(label_name(name), value, text)


def label_name(label: str) -> str:
    r"""Return a label without spaces, braces and \text; "maximum value", "largest" and "\max" are one name."""
    name = re.sub(r"\\text\s*|[\s{}]", "", label)
    word = re.sub(r"(?<=[a-z])value$|^\\", "", name.lower())
    return NAMES.get(word, name)
