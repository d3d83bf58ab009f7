"""Numbers, untrusted text and texts of single tokens, as the page and the terminal show them."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import pytest

from extra_rl.models.tokenizers import byte_level, word_level
from extra_rl.report.text import bounded, figure, interval, joins_to, signed, token_pieces, tokenizer_of, visible

TEXT = "né → 🎉\n<!-- x"


def test_numbers_have_a_true_minus_sign_and_unknown_ones_are_empty() -> None:
    assert (figure(-1.25), figure(None), figure(1234.5, ",.0f")) == ("\u22121.2", "", "1,234")
    assert (interval((-1.0, 2.0)), interval(None)) == ("[\u22121.0, +2.0]", "")


def test_a_difference_that_rounds_to_zero_has_no_sign() -> None:
    assert [signed(value) for value in (0.04, -0.04, -0.0, 0.06, None)] == ["0.0", "0.0", "0.0", "+0.1", ""]


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[31mred\x1b]0;title\x07", "\\u{1b}[31mred\\u{1b}]0;title\\u{7}"),
        ("a\u202eb", "a\\u{202e}b"),  # reverses the text that follows
        ("a\u2028b\u2029c", "a\\u{2028}b\\u{2029}c"),
        ("a\u200bb\ufeff", "a\\u{200b}b\\u{feff}"),  # no width
        ("\x9b31m", "\\u{9b}31m"),  # an escape sequence in one character
        ("\U000e0041", "\\u{e0041}"),  # a tag
        ("a\rb\tc\x7f", "a\\u{d}b\\u{9}c\\u{7f}"),
    ],
)
def test_characters_that_act_on_a_terminal_are_shown_as_code_points(hostile: str, shown: str) -> None:
    assert visible(hostile) == shown


def test_ordinary_text_and_newlines_are_unchanged() -> None:
    text = "Die Lösung: ∑ x² → 3 🎉\n日本"
    assert visible(text) == text
    assert visible(text, keep="") == text.replace("\n", "\\u{a}")


def test_no_character_stays_invisible() -> None:
    everything = "".join(chr(code) for code in range(0x20000) if not 0xD800 <= code < 0xE000)
    left = {unicodedata.category(letter) for letter in visible(everything, keep="")}
    assert {category[0] for category in left} <= set("LMNPSZ")
    assert not left & {"Zl", "Zp"}


def test_a_long_text_keeps_head_and_tail_with_the_number_left_out() -> None:
    assert bounded("x" * 30, 30) == "x" * 30
    assert bounded("abcdefghij" * 10, 30) == "abcdefghijabcdefghij [... 70 characters left out ...] abcdefghij"
    assert bounded("abcdefgh", 2) == "ab [... 6 characters left out ...] "


@pytest.fixture
def by_bytes() -> Any:
    return byte_level().backend_tokenizer


def test_pieces_join_to_the_text_also_where_a_character_has_several_tokens(by_bytes: Any) -> None:
    ids = by_bytes.encode(TEXT).ids
    pieces = token_pieces(by_bytes, ids)
    assert len(pieces) == len(ids) == len(TEXT.encode())
    assert "".join(pieces) == TEXT
    assert pieces[1:3] == ["", "é"]
    assert joins_to(pieces, TEXT, by_bytes)
    assert not joins_to(pieces, TEXT + "!", by_bytes)


def test_a_response_that_ends_inside_a_character_loses_nothing(by_bytes: Any) -> None:
    ids = by_bytes.encode("a🎉").ids[:-1]
    assert token_pieces(by_bytes, ids) == ["a", "", "", "\ufffd"]


def test_words_carry_their_space_and_special_tokens_are_shown() -> None:
    words = word_level(["one", "two"]).backend_tokenizer
    pieces = token_pieces(words, [3, 4, 2])
    assert pieces == ["one", " two", " <eos>"]
    assert joins_to(pieces, "one two", words)
    assert token_pieces(words, [3, 2, 4]) == ["one", " <eos>", " two"]


def test_special_tokens_within_a_stored_response_belong_to_it() -> None:
    words = word_level(["one", "two"]).backend_tokenizer
    pieces = token_pieces(words, [0, 3, 1, 4, 2, 3])  # tokens after the end are not part of the stored response
    assert joins_to(pieces, "one <bos> two", words)
    assert not joins_to(pieces, "one two", words)
    assert not joins_to(pieces, "two", words)


def test_without_a_tokenizer_ids_are_shown(tmp_path: Path) -> None:
    assert tokenizer_of(tmp_path) is None
    pieces = token_pieces(None, [12, 3])
    assert pieces == ["12 ", "3 "]
    assert not joins_to(pieces, "one", None)


def test_no_tokens_have_no_texts(by_bytes: Any) -> None:
    assert token_pieces(by_bytes, []) == []
