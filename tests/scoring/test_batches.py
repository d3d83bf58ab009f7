"""Micro-batches: budgets, padding, and rows that stay together."""

from __future__ import annotations

import random

import pytest

from extra_rl.scoring.batches import (
    Piece,
    TokenSequence,
    computed_of_rows,
    fill,
    micro_batches,
    pieces_of,
    shares,
    token_shares,
)

BUDGET = 8192


def lengths_of(kind: str) -> list[int]:
    """24 groups of 8 rollouts."""
    rng = random.Random(0)
    if kind == "uniform":
        return [rng.randint(64, 384) for _ in range(192)]
    return [min(4096, int(rng.lognormvariate(5.5, 0.9)) + 16) for _ in range(192)]


@pytest.mark.parametrize("kind", ["uniform", "lognormal"])
def test_padding_stays_below_a_twentieth(kind: str) -> None:
    lengths = lengths_of(kind)
    rows = [TokenSequence((1,), (2,) * (length - 1)) for length in lengths]
    batches = fill(pieces_of(rows, "padded", BUDGET), "padded", BUDGET)
    assert sorted(row for batch in batches for row in batch.rows) == list(range(192))
    assert all(batch.computed == len(batch.rows) * max(lengths[r] for r in batch.rows) for batch in batches)
    assert all(batch.computed <= BUDGET for batch in batches)
    assert 0 < token_shares(batches)["padding"] < 0.05
    assert len(batches) < 40


def test_a_batch_ends_before_a_row_that_would_pad_too_much() -> None:
    # 100 + 100 + 86 of 300: 4.7 % of padding; one more row of 86 makes 7 % of 400.
    assert list(micro_batches([86, 100, 86, 100], 1000)) == [[1, 3, 0], [2]]
    assert list(micro_batches([100, 100, 100], 200)) == [[0, 1], [2]]


def test_a_row_beyond_the_budget_is_a_batch_alone() -> None:
    assert list(micro_batches([100, 3], 48)) == [[0], [1]]


def test_first_fit_fills_batches_with_the_longest_first() -> None:
    rows = [TokenSequence((1,), (2,) * (length - 1)) for length in (30, 60, 50, 40, 120)]
    batches = fill(pieces_of(rows, "packed", 100), "packed", 100)
    assert batches == [Piece([4], 120, 120), Piece([1, 3], 100, 100), Piece([2, 0], 80, 80)]
    assert token_shares(batches) == {"padding": 0, "shared": 0}


def test_rollouts_of_a_prompt_stay_together_and_count_shared_tokens_once() -> None:
    prompts = [(1, 2, 3, 4), (5, 6, 7, 8)]
    rows = [TokenSequence(prompts[i % 2], (9, 10, 20 + i)) for i in range(6)]
    # A group: 4 tokens of the prompt, 9 and 10 once, and one further token of each row.
    groups = pieces_of(rows, "shared_prefix", 100)
    assert groups == [Piece([0, 2, 4], 21, 9), Piece([1, 3, 5], 21, 9)]
    assert [batch.rows for batch in fill(groups, "shared_prefix", 17)] == [[0, 2, 4], [1, 3, 5]]
    (both,) = fill(groups, "shared_prefix", 18)
    assert both == Piece([0, 2, 4, 1, 3, 5], 42, 18)
    assert token_shares([both]) == {"padding": 0, "shared": 24 / 42}
    # Cut after two: the third pays for its prompt again.
    assert pieces_of(rows, "shared_prefix", 8)[:2] == [Piece([0, 2], 14, 8), Piece([4], 7, 7)]


def test_a_piece_counts_the_tokens_that_the_layers_run_on() -> None:
    from extra_rl.scoring.shared_prefix import lay_out

    rng = random.Random(1)
    rows = [
        TokenSequence((1, rng.randrange(2)), tuple(rng.randrange(2) for _ in range(rng.randrange(7))))
        for _ in range(60)
    ]
    for limit in (1, 12, 1000):
        for piece in pieces_of(rows, "shared_prefix", limit):
            assert piece.computed == len(lay_out([rows[row].tokens for row in piece.rows], share=True))
            assert piece.computed <= limit or len(piece.rows) == 1


@pytest.mark.parametrize("layout", ["padded", "packed", "shared_prefix"])
def test_the_computed_tokens_of_the_rows_add_up_to_those_of_the_batch(layout: str) -> None:
    rng = random.Random(2)
    rows = [
        TokenSequence((1, rng.randrange(3)), tuple(rng.randrange(2) for _ in range(rng.randrange(7))))
        for _ in range(60)
    ]
    for limit in (1, 12, 40, 1000):
        for batch in fill(pieces_of(rows, layout, limit), layout, limit):
            assert sum(computed_of_rows(batch, rows, layout)) == batch.computed
    pair = [TokenSequence((1, 2, 3), (4, 5)), TokenSequence((1, 2, 3), (4, 6, 7))]
    (both,) = fill(pieces_of(pair, layout, 100), layout, 100) if layout != "padded" else [Piece([1, 0], 11, 12)]
    assert computed_of_rows(both, pair, layout) == {"padded": [6, 6], "packed": [6, 5], "shared_prefix": [5, 2]}[layout]


def test_shares_are_balanced_by_length_and_keep_the_order() -> None:
    # Longest first: 9 -> a, 5 -> b, 4 -> b (5 < 9), 3 -> a (9 = 9: the first), 1 -> b (9 < 12).
    assert shares([4, 9, 1, 5, 3], 2) == [[1, 4], [0, 2, 3]]
    assert shares([4, 9, 1], 1) == [[0, 1, 2]]
    assert shares([7], 3) == [[0], [], []]


def test_no_rows_give_no_batches() -> None:
    assert fill(pieces_of([], "shared_prefix", 8), "shared_prefix", 8) == []
    assert list(micro_batches([], 8)) == []
    assert token_shares([]) == {"padding": 0, "shared": 0}
