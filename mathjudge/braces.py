r"""Matching brackets in one pass, however deep; splitting at the top level. `\{` and `\}` are signs, not groups."""

from __future__ import annotations

from collections.abc import Iterator

OPEN = {"{": "}", "(": ")", "[": "]"}


def pairs(text: str) -> dict[int, int]:
    """Return the closing position of each unescaped `{` that is closed, in one pass over the text."""
    found: dict[int, int] = {}
    stack: list[int] = []
    escaped = False
    for at, char in enumerate(text):
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == "{":
            stack.append(at)
        elif char == "}" and stack:
            found[stack.pop()] = at
    return found


def braced(text: str, at: int) -> int | None:
    """Return the position of the bracket that closes the one at `at` (of the same kind), or None."""
    opening, closing = text[at], OPEN[text[at]]
    depth = 0
    escaped = False
    for n in range(at, len(text)):
        char = text[n]
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == opening:
            depth += 1
        elif char == closing:
            depth -= 1
            if depth == 0:
                return n
    return None


def levels(text: str) -> Iterator[tuple[int, str, int]]:
    r"""Yield (position, character, depth) for each character. All kinds of brackets count, also `\{` and `\}`.

    Parentheses and square brackets close each other, so that half-open intervals balance.
    """
    depth = 0
    for at, char in enumerate(text):
        if char in ")]}":
            depth -= 1
        yield at, char, depth
        if char in "([{":
            depth += 1


def balanced(text: str) -> bool:
    """Whether every bracket closes, none before it opens."""
    depth = 0
    for _, _, depth in levels(text):
        if depth < 0:
            return False
    return not text or depth + (text[-1] in "([{") == 0


def split_top(text: str, separators: str) -> list[str]:
    """Split at single characters outside all brackets, unless a backslash precedes the character."""
    parts: list[str] = []
    start = 0
    for at, char, depth in levels(text):
        if depth == 0 and char in separators and not (at and text[at - 1] == "\\"):
            parts.append(text[start:at])
            start = at + 1
    return [*parts, text[start:]]


def is_bracketed(text: str) -> bool:
    """Whether one pair of round or square brackets, half-open intervals included, encloses the whole text."""
    if len(text) < 2 or text[0] not in "([" or text[-1] not in ")]":
        return False
    return all(depth > 0 for at, _, depth in levels(text) if 0 < at < len(text) - 1)
