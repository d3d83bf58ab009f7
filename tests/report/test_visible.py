"""Text of a model made visible and bounded."""

from __future__ import annotations

import unicodedata

import pytest

from extra_rl.report.visible import bounded, visible


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[31mred\x1b]0;title\x07", "\\u{1b}[31mred\\u{1b}]0;title\\u{7}"),
        ("a\u202eb", "a\\u{202e}b"),  # turns round what follows
        ("a\u2028b\u2029c", "a\\u{2028}b\\u{2029}c"),
        ("a\u200bb\ufeff", "a\\u{200b}b\\u{feff}"),  # no width
        ("\x9b31m", "\\u{9b}31m"),  # an escape sequence in one character
        ("\U000e0041", "\\u{e0041}"),  # a tag
        ("a\rb\tc\x7f", "a\\u{d}b\\u{9}c\\u{7f}"),
    ],
)
def test_what_acts_on_a_terminal_is_shown_by_number(hostile: str, shown: str) -> None:
    assert visible(hostile) == shown


def test_ordinary_text_and_newlines_stay() -> None:
    text = "Die Lösung: ∑ x² → 3 🎉\n日本"
    assert visible(text) == text
    assert visible(text, keep="") == text.replace("\n", "\\u{a}")


def test_nothing_unseen_is_left_of_any_character() -> None:
    everything = "".join(chr(code) for code in range(0x20000) if not 0xD800 <= code < 0xE000)
    assert {unicodedata.category(letter)[0] for letter in visible(everything, keep="")} <= set("LMNPSZ")
    assert {c for c in visible(everything, keep="") if unicodedata.category(c) in ("Zl", "Zp")} == set()


def test_a_long_text_keeps_head_and_tail_and_says_how_much_is_gone() -> None:
    assert bounded("x" * 30, 30) == "x" * 30
    assert bounded("abcdefghij" * 10, 30) == "abcdefghijabcdefghij [... 70 characters left out ...] abcdefghij"
    assert bounded("abcdefgh", 2) == "ab [... 6 characters left out ...] "
