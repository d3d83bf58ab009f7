"""Text of a model made safe to look at: nothing in it may move a cursor, hide or turn around what stands beside it."""

from __future__ import annotations

import unicodedata

UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that are shown by number: controls, format characters (text direction, zero width), surrogates,
private and unassigned code points, line and paragraph separators. explorer.js has the same list."""


def visible(text: str, keep: str = "\n") -> str:
    """`text` with every character of `UNSEEN` as `\\u{202e}`, those of `keep` excepted, and a backslash as it is.

    Source: our decision; terminals act on controls, and U+202E turns around what follows.
    """
    return "".join(
        f"\\u{{{ord(letter):x}}}" if letter not in keep and unicodedata.category(letter) in UNSEEN else letter
        for letter in text
    )


def bounded(text: str, limit: int) -> str:
    """At most about `limit` characters: head and tail, and between them how many were left out."""
    if len(text) <= limit:
        return text
    head, tail = limit - limit // 3, limit // 3
    return f"{text[:head]} [... {len(text) - head - tail:,} characters left out ...] {text[len(text) - tail :]}"
