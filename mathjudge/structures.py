r"""Read answers that have parts: lists, labelled parts, sets, unions, tuples, intervals, ratios, a \pm b.

Each function takes cleaned text and `read`, which reads the parts, and returns a node or None.
"""

from __future__ import annotations

import itertools
import re

from mathjudge.answer import Bracketed, Formula, Items, Labelled, Node, Quantity, Region, SetOperation
from mathjudge.braces import is_bracketed, levels, split_top
from mathjudge.layout import SEPARATOR, Reader
from mathjudge.relation import DENIAL, SIGNS, interval, label_name

MAX_ITEMS = 500

WORD_LABEL = re.compile(r"\s*(?:\\text\s*\{\s*)?([A-Za-z][A-Za-z ]{2,}?)\s*(?:\}\s*)?[:=]\s*(?:\}\s*)?(?=\S)(?!.*\\in)")
# The quantities that questions ask for together, named without a sign: "maximum 2, minimum 1".
NAMED = re.compile(
    r"\s*(?:\\text\s*\{\s*)?(?:the\s+)?((?:maximum|minimum|max|min|largest|smallest|greatest|least|highest|lowest|mean|median|"
    r"mode|sum|product|length|width|height|area|perimeter|volume)(?:\s+value)?(?:\s+is)?)\s*(?:\}\s*)?[:=]?\s*(?=[-\d\\.(])"
    r"|\s*\\(max|min)\s*[:=]\s*(?=\S)",
    re.IGNORECASE,
)
# The mark of a part: (a), a), (ii), \text{part (b): }.
PART = re.compile(
    r"(?:\\text\s*\{\s*)?(?:part\s*)?(?:(?<![\w)])\(([a-e]|i{1,3}|iv|v|[1-5](?=\)[\s}]))\)|(?<![\w(])([a-e]|i{1,3}|iv|v)\))\s*(?:\}\s*)?[:.=]?\s*(?:\}\s*)?",
    re.IGNORECASE,
)
OPERATOR = re.compile(r"^(?:[+*/^=<>]|\\(?:cdot|times|pm)(?![a-z]))|[-+*/^=<>]$")
PART_MARKS = (("a", "b", "c", "d", "e"), ("i", "ii", "iii", "iv", "v"), ("1", "2", "3", "4", "5"))
ALL_REALS = re.compile(
    r"(?:\\mathbb\s*\{?\s*R\s*\}?|(?:\\text\s*\{)?\s*(?:all|any|every) reals?(?: numbers?)?\s*\}?)", re.IGNORECASE
)
SET_SIGN = re.compile(r"\\(cup|cap|setminus|backslash)(?![a-z])")
# "-" between sets: before a brace, or after a set's name.
SET_MINUS = re.compile(r"(?<=[\]})])\s*-\s*(?=\\\{)|(?:(?<=[RZNQC]\})|(?<=\\mathbb [RZNQC]))\s*-\s*(?=\\\{|[\[(])")


def read_list(text: str, depth: int, read: Reader) -> Node | None:
    """Read answers between commas, semicolons, "and" and "or"; a list inside the list is part of it."""
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
    return _intersection(nodes) or Items(_grouped(nodes))


def _intersection(nodes: list[Node]) -> Node | None:
    """Read conditions on one variable that hold together: x >= 2 and x <= 6, x > 0 and x \\ne 1.

    Half-lines that do not overlap are a union; two that overlap and mean a union would be the whole line.
    """
    labelled = [node for node in nodes if isinstance(node, Labelled)]
    if len(labelled) != len(nodes) or len({node.label for node in labelled}) != 1:
        return None
    label, values = labelled[0].label, [node.value for node in labelled]
    if any(isinstance(value, Region) and value.complement for value in values):
        whole = values[0]
        for value in values[1:]:
            whole = SetOperation(r"\cap", whole, value)
        return Labelled(label, whole, "")
    halves = [value for value in values if isinstance(value, Bracketed) and len(value.items) == 2]
    below = [half for half in halves if half.items[0] == Formula(r"-\infty", "")]
    above = [half for half in halves if half.items[1] == Formula(r"\infty", "")]
    if len(values) != 2 or len(below) != 1 or len(above) != 1:
        return None
    low, high = above[0].items[0], below[0].items[1]
    if not isinstance(low, Quantity) or not isinstance(high, Quantity) or low.number.value > high.number.value:
        return None
    return Labelled(label, Bracketed(above[0].opening, (low, high), below[0].closing), "")


def _grouped(nodes: list[Node]) -> tuple[Node, ...]:
    """Return p = 5, q = 2, p = 7, q = 2 as the tuples (5, 2), (7, 2): labels that repeat in the same order."""
    labels = [node.label for node in nodes if isinstance(node, Labelled)]
    names = list(dict.fromkeys(labels))
    width = len(names)
    if len(labels) != len(nodes) or width < 2 or len(nodes) <= width or labels != names * (len(nodes) // width):
        return tuple(nodes)
    values = [node.value for node in nodes if isinstance(node, Labelled)]
    return tuple(Bracketed("(", tuple(values[n : n + width]), ")") for n in range(0, len(values), width))


def read_parts(text: str, depth: int, read: Reader) -> Node | None:
    """Read "(a) 5, (b) 7" as a list of labelled answers: marks in their order, each with an answer."""
    if ")" not in text:
        return None
    marks = [mark for mark in PART.finditer(text) if mark.start() == 0 or text[mark.start() - 1] in " ,;" + SEPARATOR]
    labels = tuple((mark[1] or mark[2]).lower() for mark in marks)
    if len(marks) < 2 or marks[0].start() != 0 or not any(labels == known[: len(labels)] for known in PART_MARKS):
        return None
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    contents = [text[mark.end() : end].strip(" ,;." + SEPARATOR) for mark, end in zip(marks, ends, strict=True)]
    if any(not content or OPERATOR.search(content) for content in contents):
        return None
    return Items(
        tuple(
            Labelled(f"({label})", read(content, depth), content)
            for label, content in zip(labels, contents, strict=True)
        )
    )


def read_named(text: str, depth: int, read: Reader) -> Node | None:
    """Read "maximum 2", "maximum: 2" and "Area = 2" as a labelled value."""
    match = NAMED.match(text)
    if match and (depth > 1 or re.search(r"[:=]\s*$", match[0])):  # without a sign only in a list
        name = label_name(re.sub(r"\s+is$", "", match[1] or match[2]))
        return Labelled(name, read(text[match.end() :], depth), text[match.end() :])
    match = WORD_LABEL.match(text)
    if not match or DENIAL.search(match[1]):
        return None
    return Labelled(match[1].strip(), read(text[match.end() :], depth), text)


def read_set(text: str, depth: int, read: Reader) -> Node | None:
    r"""Read \{a, b\} and \{x | condition\}."""
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


def read_signs(text: str, depth: int, read: Reader) -> Node | None:
    r"""Read a \pm b as two answers; in a tuple each element chooses its sign on its own."""
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


def read_bracketed(text: str, depth: int, read: Reader) -> Node | None:
    """Read a tuple, a point or an interval; brackets around one answer are dropped. P(1, 2) is the point P."""
    if point := re.match(r"[A-Z]'?\s*(?=\()", text):
        inner = text[point.end() :]
        if is_bracketed(inner) and re.fullmatch(r"\((?:[^()]*\d[^()]*),[^()]*\)", inner):
            return Labelled(point[0].strip(), read(inner, depth), inner)
    if not is_bracketed(text):
        return None
    parts = split_top(text[1:-1], ",;")
    if len(parts) == 1:
        return read(text[1:-1], depth) if text[0] + text[-1] in ("()", "[]") else None
    if len(parts) > MAX_ITEMS or any(not part.strip() for part in parts):
        return None
    return Bracketed(text[0], tuple(read(part, depth) for part in parts), text[-1])


def read_region(text: str, depth: int, read: Reader) -> Node | None:
    """Read the real line, and unions, intersections and differences of sets, from left to right."""
    if ALL_REALS.fullmatch(text.strip()):
        return interval("(", "-\\infty", "\\infty", ")", lambda side: read(side, depth))
    if not SET_SIGN.search(text) and not SET_MINUS.search(text):
        return None
    text = SET_MINUS.sub(r" \\setminus ", text)
    operands, signs = _split_sets(text)
    if not signs or any(not part or _related(part) for part in operands):
        return None
    whole = read(operands[0], depth)
    if set(signs) == {"cup"}:
        return Region((whole, *(read(part, depth) for part in operands[1:])))
    for sign, part in zip(signs, operands[1:], strict=True):
        operand = read(part, depth)
        if sign == "cup":
            whole = Region((whole, operand))
        elif sign == "cap":
            whole = SetOperation(r"\cap", whole, operand)
        elif len(signs) == 1 and ALL_REALS.fullmatch(operands[0]) and isinstance(operand, Items):
            return Region(operand.items, complement=True)
        else:
            whole = SetOperation(r"\setminus", whole, operand)
    return whole


def _split_sets(text: str) -> tuple[list[str], list[str]]:
    """Return the operands and the signs of set operations at the top level."""
    depth_at = {at: depth for at, _, depth in levels(text)}
    operands, signs, start = [], [], 0
    for match in SET_SIGN.finditer(text):
        if depth_at[match.start()] == 0:
            operands.append(text[start : match.start()].strip())
            signs.append("setminus" if match[1] == "backslash" else match[1])
            start = match.end()
    return [*operands, text[start:].strip()], signs


def _related(text: str) -> bool:
    """Whether a relation sign stands in a text outside brackets."""
    depth_at = {at: depth for at, _, depth in levels(text)}
    return any(depth_at[match.start()] == 0 for match in SIGNS.finditer(text))


def read_ratio(text: str, depth: int, read: Reader) -> Node | None:
    """Read a : b and longer ratios."""
    parts = split_top(text, ":")
    if len(parts) < 2 or any(not part.strip() for part in parts) or "\\text" in text:
        return None
    return Items(tuple(read(part, depth) for part in parts), ratio=True)
