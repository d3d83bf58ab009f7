"""The row that contains shared prefixes once, by hand."""

from __future__ import annotations

import random

import numpy as np

from extra_rl.scoring.shared_prefix import Row, lay_out


def row_of(*sequences: list[int], share: bool = True) -> Row:
    return lay_out([np.array(tokens, np.int64) for tokens in sequences], share=share)


def test_a_prompt_and_a_prefix_are_in_the_row_once() -> None:
    # In order: 7 8 1 2 | 7 8 1 3 4 (shares 7 8 1) | 7 8 5 (shares 7 8).
    row = row_of([7, 8, 5], [7, 8, 1, 3, 4], [7, 8, 1, 2])
    assert row.tokens_N.tolist() == [7, 8, 1, 2, 3, 4, 5]
    assert row.position_N.tolist() == [0, 1, 2, 3, 3, 4, 2]
    assert [places.tolist() for places in row.places] == [[0, 1, 6], [0, 1, 2, 4, 5], [0, 1, 2, 3]]
    assert (row.queries, row.keys) == ([4, 2, 1], [4, 5, 3])
    assert row.key_places is not None
    assert row.key_places.tolist() == [0, 1, 2, 3, 0, 1, 2, 4, 5, 0, 1, 6]


def test_a_prefix_of_another_and_a_duplicate_add_no_tokens() -> None:
    row = row_of([1, 2, 3], [1, 2], [1, 2, 3])
    assert row.tokens_N.tolist() == [1, 2, 3]
    assert [places.tolist() for places in row.places] == [[0, 1, 2], [0, 1], [0, 1, 2]]
    assert (row.queries, row.keys) == ([2, 1], [2, 3])


def test_without_sharing_sequences_follow_each_other_and_need_no_gathering() -> None:
    for row in (row_of([1, 2, 3], [1, 2], share=False), row_of([1, 2, 3], [4, 5])):
        assert row.position_N.tolist() == [0, 1, 2, 0, 1]
        assert (row.queries, row.keys, row.key_places) == ([3, 2], [3, 2], None)
    assert row_of([1, 2, 3], [1, 2], share=False).tokens_N.tolist() == [1, 2, 3, 1, 2]


def test_every_sequence_is_read_back_and_every_prefix_is_there_once() -> None:
    rng = random.Random(0)
    for _ in range(50):
        sequences = [[rng.randrange(3) for _ in range(rng.randrange(1, 9))] for _ in range(rng.randrange(1, 12))]
        row = row_of(*sequences)
        assert [row.tokens_N[places].tolist() for places in row.places] == sequences
        assert all(row.position_N[places].tolist() == list(range(len(places))) for places in row.places)
        assert len(row) == len({tuple(tokens[: n + 1]) for tokens in sequences for n in range(len(tokens))})
