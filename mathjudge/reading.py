r"""Read an answer: cleaned text in, a node of `mathjudge.answer` out.

Nothing fails: what is not understood is a Formula, which equals only what its parser or its text says.
"""

from __future__ import annotations

import math
import re

from mathjudge.answer import Choice, Clock, Formula, Labelled, Node, Quantity, Words
from mathjudge.layout import SEPARATOR, Reader, read_cases, read_matrix
from mathjudge.numbers import read_base, read_number
from mathjudge.relation import is_label, read_relation
from mathjudge.structures import (
    NAMED,
    read_bracketed,
    read_list,
    read_named,
    read_parts,
    read_ratio,
    read_region,
    read_set,
    read_signs,
)
from mathjudge.units import split_unit, strip_leading_text

MAX_DEPTH = 12

NEARLY = re.compile(
    r"^\s*(?:=|~|(?i:the\s+)?(?i:final\s+)?(?i:answer\s+is)\s*:?|(?:\\text\s*\{\s*)?(?:approx(?:imately|\.)?|about|roughly|around)(?![a-z])\s*\}?)\s*(?=\S)"
)
CHOICE = re.compile(
    r"(?:\\text\s*\{\s*)?(?:(?i:option|choice|answer)\s*:?\s*)?(?:\(\s*(?P<a>[A-Z])\s*\)|(?P<b>[A-Z])(?=\s*(?:[.:)]|\}|$)))\s*[.:)]?\s*\}?\s*[.:]?\s*(?P<rest>.*)",
    re.DOTALL,
)
MARKED_LETTER = re.compile(r"(?:\\text\s*\{\s*)?(?:(?i:option|choice|answer)\s*:?\s*)?[A-Z]\s*[.:)}]")
# After a letter in brackets: it is a symbol of a calculation, and no choice.
CALCULATES = re.compile(
    r"[-+^_=<>/|,!'%°*]|\((?:[A-Z]|\d+)\)"
    r"|\\(?:cdot|times|div|pm|mp|cup|cap|in|le|ge|ne|approx|equiv|setminus|over|to|rightarrow|subset)(?![a-z])"
    r"|\\text\s*\{\s*(?:plus|minus|times|or|and|over)\b|(?:plus|minus|times|or|and|over)\b"
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
EITHER = re.compile(r"^\s*(?:\\text\s*\{\s*)?(?:either|both)\s*(?:\}\s*)?(?=[^a-z])", re.IGNORECASE)
MAPPING = re.compile(r"(?:([a-zA-Z])\s*:\s*)?([a-zA-Z])\s*\\mapsto(?![a-z])\s*(?=\S)")
CLOCK = re.compile(
    r"(\d{1,2}):([0-5]\d)(?::([0-5]\d))?\s*(?:(?:\\text\s*\{)?\s*([ap])\.?\s*m\b\.?\s*\}?)?", re.IGNORECASE
)
DATE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}|\d{1,2}/\d{1,2}/\d{4}")
LETTERS = re.compile(r"(?:[^\W\d_]|[\s.,'’\"!?-])+")


def read(text: str, depth: int = 0) -> Node:
    """Return the node of a cleaned answer. depth: how many structures it lies in; deeper than MAX_DEPTH is not read."""
    text = _without_approximation(text.strip())
    if depth > MAX_DEPTH:
        return Formula(text, "")
    for reader in (_base, _choice, _rows, _clock, _number):
        if node := reader(text):
            return node
    if node := read_parts(CONNECTOR.sub(SEPARATOR, text), depth + 1, read):
        return node
    text = EITHER.sub("", text)
    in_list = depth > 0 or re.search(r"[,;]|\b(?:and|or)\b", text)  # there the names of the members count
    if not (in_list and NAMED.match(text)):
        text = strip_leading_text(text)
    text = _strip_condition(text)
    text = CONNECTOR.sub(SEPARATOR, _open_texts(text)).strip(SEPARATOR + " ")
    for structure in (read_list, read_set, read_signs, read_bracketed, read_region):
        if node := structure(text, depth + 1, read):
            return node
    if node := read_relation(text, lambda side: read(side, depth + 1)):
        return node
    for label in (read_named, _mapping, read_ratio):
        if node := label(text, depth + 1, read):
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
    if rest and not (match["a"] or MARKED_LETTER.match(text)):
        return None
    return None if CALCULATES.match(rest) else Choice(match["a"] or match["b"], rest)


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


def _mapping(text: str, depth: int, read_part: Reader) -> Node | None:
    r"""f: x \mapsto x^2 as f(x) = x^2."""
    match = MAPPING.match(text)
    if not match:
        return None
    source = text[match.end() :]
    return Labelled(f"{match[1] or 'f'}({match[2]})", read_part(source, depth), source)


def _leaf(text: str) -> Node:
    if DATE.fullmatch(text) or text == r"\dots":
        return Words(text)
    core, unit = split_unit(text)
    if number := read_number(core):
        return Quantity(number, unit, core)
    words = re.sub(r"\\text\s*\{([^{}]*)\}", r" \1 ", text).strip()
    formula = re.fullmatch(r"\W*\w{1,2}(?:-\w{1,2})+\W*", words)  # a-bi
    is_text = len(re.sub(r"\W", "", words)) >= 3 or "\\text" in text or not words.isascii()
    if is_text and not formula and LETTERS.fullmatch(words):
        return Words(words)
    return Formula(core.strip(), unit)
