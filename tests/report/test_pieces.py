"""Texts of single tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from extra_rl.models.tokenizers import byte_level, word_level
from extra_rl.report.pieces import joins_to, token_pieces, tokenizer_of

TEXT = "né → 🎉\n<!-- x"


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


def test_a_response_that_ends_within_a_character_loses_nothing(by_bytes: Any) -> None:
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
    pieces = token_pieces(words, [0, 3, 1, 4, 2, 3])  # what follows the end was invented
    assert joins_to(pieces, "one <bos> two", words)
    assert not joins_to(pieces, "one two", words)
    assert not joins_to(pieces, "two", words)


def test_without_a_tokenizer_ids_are_shown(tmp_path: Path) -> None:
    assert tokenizer_of(tmp_path) is None
    pieces = token_pieces(None, [12, 3])
    assert pieces == ["12 ", "3 "]
    assert not joins_to(pieces, "one", None)


def test_no_token_no_piece(by_bytes: Any) -> None:
    assert token_pieces(by_bytes, []) == []
