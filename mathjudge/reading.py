r"""Reading an answer: cleaned text in, a node of `mathjudge.answer` out.

Nothing fails: what is not understood is a Formula, which equals only what its parser or its text says.
"""

from __future__ import annotations

import itertools
import math
import re

from mathjudge.answer import (
    Bracketed,
    Choice,
    Clock,
    Formula,
    Items,
    Labelled,
    Node,
    Quantity,
    Region,
    Words,
)
from mathjudge.braces import is_bracketed, levels, split_top
from mathjudge.layout import SEPARATOR, read_cases, read_matrix
from mathjudge.numbers import read_base, read_number
from mathjudge.relation import DENIAL, SIGNS, interval, is_label, read_relation
from mathjudge.units import split_unit, strip_leading_text

NEARLY = re.compile(
    r"^\s*(?:=|~|(?i:the\s+)?(?i:final\s+)?(?i:answer\s+is)\s*:?|(?:\\text\s*\{\s*)?(?:approx(?:imately|\.)?|about|roughly|around)(?![a-z])\s*\}?)\s*(?=\S)"
)
MAX_ITEMS = 500
MAX_DEPTH = 12

CHOICE = re.compile(
    r"(?:\\text\s*\{\s*)?(?:(?i:option|choice|answer)\s*:?\s*)?(?:\(\s*(?P<a>[A-Z])\s*\)|(?P<b>[A-Z])(?=\s*(?:[.:)]|\}|$)))\s*[.:)]?\s*\}?\s*[.:]?\s*(?P<rest>.*)",
    re.DOTALL,
)
CONDITION = re.compile(
    r"[\s,;(]*(?:\\forall|(?:\\text\s*\{\s*)?(?<![A-Za-z\\])"
    r"(?:for\s+(?:all|any|every|each|some)|where|when|such that)\b).*$",
    re.DOTALL,
)
PARAMETER = re.compile(r"\s*[,;(]\s*\(?\s*[a-z](?:\s*,\s*[a-z])*\s*\\in\s*\\mathbb\s*\{?\s*[ZNQR]\s*\}?.*$", re.DOTALL)
CONNECTOR = re.compile(
    r"\s*(?:\\text\s*\{\s*,?\s*(?:and|or)\s*,?\s*\}|\\(?:lor|vee|land|wedge)(?![a-z])|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z]))\s*"
)
WORD_LABEL = re.compile(r"\s*(?:\\text\s*\{\s*)?([A-Za-z][A-Za-z ]{2,}?)\s*(?:\}\s*)?[:=]\s*(?:\}\s*)?(?=\S)(?!.*\\in)")
ALL_REALS = re.compile(
    r"(?:\\mathbb\s*\{?\s*R\s*\}?|(?:\\text\s*\{)?\s*(?:all|any|every) reals?(?: numbers?)?\s*\}?)", re.IGNORECASE
)
CLOCK = re.compile(
    r"(\d{1,2}):([0-5]\d)(?::([0-5]\d))?\s*(?:(?:\\text\s*\{)?\s*([ap])\.?\s*m\b\.?\s*\}?)?", re.IGNORECASE
)
DATE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}|\d{1,2}/\d{1,2}/\d{4}")


def read(text: str, depth: int = 0) -> Node:
    """The node of a cleaned answer. Never fails: what is not understood is a Formula."""
    text = _without_approximation(text.strip())
    if depth > MAX_DEPTH:
        return Formula(text, "")
    for reader in (_base, _choice, _rows, _clock, _number):
        if node := reader(text):
            return node
    text = strip_leading_text(text)
    text = _strip_condition(text)
    text = CONNECTOR.sub(SEPARATOR, _open_texts(text)).strip(SEPARATOR + " ")
    for structure in (_list, _set, _signs_of, _bracketed, _region, _equation, _word_label, _ratio):
        if node := structure(text, depth + 1):
            return node
    return _leaf(text)


def _without_approximation(text: str) -> str:
    r"""1/3 \approx 0.33 is 1/3; x \approx 8.24, \approx 8.24 and "about 8.24" are the number that they state."""
    left, sign, right = re.split(r"(\\approx|\\simeq|\\equiv(?=.*\\pmod)|$)", text, maxsplit=1)[:3]
    text = right if sign and right.strip() and (not left.strip() or is_label(left)) else left or text
    return NEARLY.sub("", text).strip() or text


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


def _rows(text: str) -> Node | None:
    return (read_cases(text, read) or read_matrix(text, read)) if "\\begin" in text else None


def _clock(text: str) -> Node | None:
    """A time of day. 3:12 may be a ratio in lowest terms, and stays one; 12:30 and 5:05 cannot be."""
    match = CLOCK.fullmatch(text.strip())
    if not match or int(match[1]) > 24:
        return None
    hour, minute, half = int(match[1]), int(match[2]), (match[4] or "").lower()
    if not half and not match[3] and math.gcd(hour, minute) == 1 and match[2][0] != "0":
        return None
    return Clock(hour, minute, int(match[3] or 0), half)


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
    return text.rstrip(" ,;")


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
    return _intersection(nodes) or Items(_group(nodes))


def _intersection(nodes: list[Node]) -> Node | None:
    """x >= 2 and x <= 6 as the interval [2, 6]: two half-lines of one variable that overlap in numbers.

    Half-lines that do not overlap are a union; two that overlap and mean a union would be the whole line.
    """
    if len(nodes) != 2 or not all(isinstance(node, Labelled) and isinstance(node.value, Bracketed) for node in nodes):
        return None
    first, second = (node for node in nodes if isinstance(node, Labelled))
    halves = [
        node.value for node in (first, second) if isinstance(node.value, Bracketed) and len(node.value.items) == 2
    ]
    below = [half for half in halves if half.items[0] == Formula(r"-\infty", "")]
    above = [half for half in halves if half.items[1] == Formula(r"\infty", "")]
    if first.label != second.label or len(below) != 1 or len(above) != 1:
        return None
    low, high = above[0].items[0], below[0].items[1]
    if not isinstance(low, Quantity) or not isinstance(high, Quantity) or low.number.value > high.number.value:
        return None
    return Labelled(first.label, Bracketed(above[0].opening, (low, high), below[0].closing), "")


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
    if not (text.startswith("\\{") and text.endswith("\\}") and _is_one_set(text)):
        return None
    inner = text[2:-2]
    builder = re.split(r"\||:(?!=)", inner, maxsplit=1)
    if len(builder) == 2 and re.fullmatch(r"\s*[a-zA-Z](?:_\w)?(?:\s*\\in.*)?\s*", builder[0]):
        node = read(builder[1], depth)
        return node.value if isinstance(node, Labelled) else node
    node = read(inner, depth)
    return Items(node.items if isinstance(node, Items) and not node.ratio else (node,), braces=True)


def _is_one_set(text: str) -> bool:
    r"""Whether the brace that opens the text closes at its end: \{1\} \cup \{2\} is two sets."""
    return all(depth > 0 for at, _, depth in levels(text) if 1 < at < len(text) - 1)


def _signs_of(text: str, depth: int) -> Node | None:
    r"""a \pm b as two answers; in a tuple each element chooses its sign on its own."""
    if r"\pm" not in text and r"\mp" in text:
        text = text.replace(r"\mp", r"\pm")
    if r"\pm" not in text or SIGNS.search(text):
        return None
    if is_bracketed(text):
        elements = [_both_signs(part) for part in split_top(text[1:-1], ",")]
        variants = list(itertools.islice(itertools.product(*elements), 64))
        return Items(tuple(read(text[0] + ",".join(v) + text[-1], depth) for v in variants))
    return Items(tuple(read(variant, depth) for variant in _both_signs(text)))


def _both_signs(text: str) -> list[str]:
    if r"\pm" not in text:
        return [text]
    plus = re.sub(r"\\mp\s*", "-", re.sub(r"\\pm\s*", "+", text)).strip().removeprefix("+")
    return [plus, re.sub(r"\\mp\s*", "+", re.sub(r"\\pm\s*", "-", text))]


def _bracketed(text: str, depth: int) -> Node | None:
    if not is_bracketed(text):
        return None
    parts = split_top(text[1:-1], ",;")
    if len(parts) == 1:
        return read(text[1:-1], depth) if text[0] + text[-1] in ("()", "[]") else None
    if len(parts) > MAX_ITEMS or any(not part.strip() for part in parts):
        return None
    return Bracketed(text[0], tuple(read(part, depth) for part in parts), text[-1])


def _region(text: str, depth: int) -> Node | None:
    if ALL_REALS.fullmatch(text.strip()):
        return interval("(", "-\\infty", "\\infty", ")", lambda side: read(side, depth))
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


def _equation(text: str, depth: int) -> Node | None:
    return read_relation(text, lambda side: read(side, depth))


def _word_label(text: str, depth: int) -> Node | None:
    match = WORD_LABEL.match(text)
    if not match or DENIAL.search(match[1]):
        return None
    return Labelled(match[1].strip(), read(text[match.end() :], depth), text)


def _ratio(text: str, depth: int) -> Node | None:
    parts = split_top(text, ":")
    if len(parts) < 2 or any(not part.strip() for part in parts) or "\\text" in text:
        return None
    return Items(tuple(read(part, depth) for part in parts), ratio=True)


def _leaf(text: str) -> Node:
    if DATE.fullmatch(text) or text == r"\dots":
        return Words(text)
    core, unit = split_unit(text)
    if number := read_number(core):
        return Quantity(number, unit, core)
    words = re.sub(r"\\text\s*\{([^{}]*)\}", r" \1 ", text).strip()
    if re.fullmatch(r"(?:[^\W\d_]|[\s.,'’\"!?-])+", words) and (
        len(re.sub(r"\W", "", words)) >= 3 or "\\text" in text or not words.isascii()
    ):
        return Words(words)
    return Formula(core.strip(), unit)
