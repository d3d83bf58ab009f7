r"""The last complete \boxed{} of a response, and the neighbouring boxes that form one list with it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mathjudge.braces import pairs

# \boxed{...}; without braces only a number, or one letter that ends its sentence or formula: "I used \boxed as asked"
# mentions the command.
BOX = re.compile(r"\\(?:boxed|fbox)\s*(?:(\{)|([-+]?\d[\w.]*|[A-Za-z](?=\s*(?:[.,;:!?$]|\\[)\]]|\n|$))))")
# Content of a box that only shows the format: nothing, dots, "your answer".
PLACEHOLDER = re.compile(
    r"(?:\\[,;:! ]|\\q?quad|\\(?:[lc]?dots|cdots|ldots|text|mathrm|textbf|phantom)(?![a-z])|[\s{}.…_?<>\[\]$~-])*"
    r"(?:(?:(?:the|your|my|final|numerical)\s+)*answer(?:\s+here)?[\s{}.…_?<>\[\]$]*)?",
    re.IGNORECASE,
)
UNCLOSED = re.compile(r"\\(?:boxed|fbox)\s*(\{|$)")
# What may stand between two boxes of one list: separators, "and", math delimiters, labels such as "y_2 =".
GLUE = (
    r"[\s,;.&$]|\\[()\[\],;! ]|\\\\|\\q?quad|\\(?:text|mbox)\s*\{\s*(?:,?\s*(?:and|or))?\s*,?\s*\}|\band\b|\bor\b"
    r"|[A-Za-z](?:_\{?\w+\}?)?\s*="
)
ADJACENT = re.compile(rf"(?:{GLUE}|(?<=\s)[a-z]+(?=\s*(?:,|and\b)))*")
# The same, with the names of the parts that a question asks for: "(a)", "the minimum is".
LABELLED = re.compile(
    rf"(?:{GLUE}|\*\*|[-:=•]|\(?\b(?:[a-e]|[ivx]{{1,4}})\)"
    r"|\b(?:the|is|are|part|case|value|maximum|minimum|max|min|largest|smallest|greatest|least|first|second|third|"
    r"sum|product|mean|median|mode|area|perimeter|volume|length|width|height)\b)*",
    re.IGNORECASE,
)
MAX_GAP = 60


@dataclass(frozen=True)
class Box:
    """A complete box: where it starts and ends in the text, and what it contains."""

    start: int
    end: int
    content: str


@dataclass(frozen=True)
class Boxes:
    """The last box of a text and its neighbours.

    Attributes:
        answers: contents of the adjacent boxes that end with the last one, each once.
        parts: the same, with boxes that are apart by the name of a part ("(a)", "the minimum is"); used where the
            reference answer is a list.
        joined_by_or: "or" stands between two of the answers: they are alternatives.
        separated: a comma, "and" or "or" stands between two of the answers: they are a list.
    """

    answers: tuple[str, ...]
    parts: tuple[str, ...]
    joined_by_or: bool
    separated: bool


def find_boxes(text: str) -> Boxes | None:
    """Return the last complete box of a text with its neighbours, or None.

    Empty boxes and placeholders are skipped. If a box contains a box, the inner one counts.
    """
    boxes = [box for box in complete_boxes(text) if not PLACEHOLDER.fullmatch(box.content)]
    if not boxes:
        return None
    adjacent, gaps = _joined(text, boxes, ADJACENT)
    parts, _ = _joined(text, boxes, LABELLED)
    return Boxes(
        answers=_contents(adjacent),
        parts=_contents(parts),
        joined_by_or=any(re.search(r"\bor\b", gap) for gap in gaps) or _follows_or(text, boxes),
        separated=any(re.search(r"\b(?:or|and)\b|[,;]", re.sub(r"\\[,;]", "", gap)) for gap in gaps),
    )


def complete_boxes(text: str) -> list[Box]:
    """Return every closed box that contains no other box, in the order of the text. Linear in the text's length."""
    closing = pairs(text)
    boxes: list[Box] = []
    for match in BOX.finditer(text):
        if match[1] is None:
            boxes.append(Box(match.start(), match.end(), match[2]))
        elif (end := closing.get(match.end() - 1)) is not None:
            boxes.append(Box(match.start(), end + 1, text[match.end() : end].strip()))
    return [box for n, box in enumerate(boxes) if n + 1 == len(boxes) or boxes[n + 1].start >= box.end]


def has_unclosed_box(text: str) -> bool:
    r"""Whether a box was opened and never closed: the text was cut off inside it."""
    closing = pairs(text)
    return any(not match[1] or match.start(1) not in closing for match in UNCLOSED.finditer(text))


def without_mentions(text: str) -> str:
    r"""Return a text that has no real box without its placeholders: "\boxed{}", "\boxed{answer}", "\boxed as asked"."""
    for box in reversed(complete_boxes(text)):
        text = f"{text[: box.start]} {text[box.end :]}"
    return re.sub(r"\\(?:boxed|fbox)(?![A-Za-z{])", " ", text)


def _joined(text: str, boxes: list[Box], glue: re.Pattern[str]) -> tuple[list[Box], list[str]]:
    """Return the longest run of boxes that ends with the last one and is held together by `glue`, and its gaps."""
    run, gaps = [boxes[-1]], []
    for box in reversed(boxes[:-1]):
        gap = text[box.end : run[0].start]
        if len(gap) > MAX_GAP or not glue.fullmatch(gap):
            break
        run.insert(0, box)
        gaps.append(gap)
    return run, gaps


def _contents(boxes: list[Box]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(box.content for box in boxes))


def _follows_or(text: str, boxes: list[Box]) -> bool:
    """Whether the last box is one more guess of the same sentence: "6, or alternatively 5"."""
    if len(boxes) < 2 or boxes[-1].content == boxes[-2].content:
        return False
    gap = text[boxes[-2].end : boxes[-1].start]
    return len(gap) < 40 and bool(re.fullmatch(r"[^.!?\n]*\bor\b[^.!?\n]*", gap))
