"""Micro-batches of token sequences: which are computed together, within a budget of tokens.

Rows of one prompt share it, and regenerated rows a long prefix: with the layout `shared_prefix` they form a piece that
stays together, as far as the budget lets it. Else every row is a piece of its own. Source: our decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from extra_rl.scoring.sequences import TokenSequence, micro_batches
from extra_rl.scoring.shared_prefix import common_prefix, trie_order


class Piece(NamedTuple):
    """Rows that are computed together. tokens: of their sequences; computed: those that the layers run on."""

    rows: list[int]
    tokens: int
    computed: int


def pieces_of(sequences: Sequence[TokenSequence], layout: str, limit: int) -> list[Piece]:
    """What is to be kept together, each of at most `limit` computed tokens unless it is a single row."""
    if layout != "shared_prefix":
        return [Piece([row], len(sequence), len(sequence)) for row, sequence in enumerate(sequences)]
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, sequence in enumerate(sequences):
        groups.setdefault(tuple(sequence.prompt), []).append(row)
    return [piece for rows in groups.values() for piece in _cut(sequences, rows, limit)]


def _cut(sequences: Sequence[TokenSequence], rows: Sequence[int], limit: int) -> list[Piece]:
    """The rows in the order of their trie, cut where the next one would exceed the limit."""
    tokens = [sequences[row].tokens for row in rows]
    pieces: list[Piece] = []
    before = None
    for i in trie_order(tokens):
        length = len(tokens[i])
        added = length - (common_prefix(before, tokens[i]) if before is not None else 0)
        before = tokens[i]
        if pieces and pieces[-1].computed + added <= limit:
            last = pieces[-1]
            pieces[-1] = Piece([*last.rows, rows[i]], last.tokens + length, last.computed + added)
        else:
            pieces.append(Piece([rows[i]], length, length))
    return pieces


def fill(pieces: Sequence[Piece], layout: str, budget: int) -> list[Piece]:
    """Pieces joined to micro-batches of at most `budget` computed tokens, or of one piece; all rows, each once.

    padded: neighbours in length (`micro_batches`). Else first fit, longest pieces first: there is no padding to avoid,
    and batches of nearly equal work are as few as they can be within 22 % (Johnson 1973).
    """
    if layout == "padded":
        batches = micro_batches([piece.tokens for piece in pieces], budget)
        return [_joined([pieces[i] for i in batch], padded=True) for batch in batches]
    bins: list[list[Piece]] = []
    room: list[int] = []
    for piece in sorted(pieces, key=lambda piece: -piece.computed):
        place = next((k for k, free in enumerate(room) if piece.computed <= free), len(bins))
        if place == len(bins):
            bins.append([])
            room.append(budget)
        bins[place].append(piece)
        room[place] -= piece.computed
    return [_joined(found, padded=False) for found in bins]


def _joined(pieces: Sequence[Piece], *, padded: bool) -> Piece:
    computed = len(pieces) * max(p.computed for p in pieces) if padded else sum(p.computed for p in pieces)
    return Piece([row for p in pieces for row in p.rows], sum(p.tokens for p in pieces), computed)


def computed_of_rows(batch: Piece, sequences: Sequence[TokenSequence], layout: str) -> list[int]:
    """The batch's computed tokens, row by row in its order: what a row shares with the one before it counts there.

    batch: as `fill` gives it. Rows of one prompt are neighbours in it, and of one piece. They add up to `computed`.
    """
    rows = [sequences[row] for row in batch.rows]
    if layout == "padded":
        return [max(map(len, rows))] * len(rows)
    if layout != "shared_prefix":
        return [len(row) for row in rows]
    computed = [len(row) for row in rows]
    for place in range(1, len(rows)):
        former, row = rows[place - 1], rows[place]
        if tuple(former.prompt) == tuple(row.prompt):
            computed[place] -= common_prefix(former.tokens, row.tokens)
    return computed


def token_shares(batches: Sequence[Piece]) -> dict[str, float]:
    """padding: share of the computed tokens that belong to no sequence; shared: share of the sequences' tokens that
    were not computed because another sequence of the micro-batch had them computed. 0 for no batch."""
    computed, tokens = sum(b.computed for b in batches), sum(b.tokens for b in batches)
    padding = sum(max(0, b.computed - b.tokens) for b in batches)
    shared = sum(max(0, b.tokens - b.computed) for b in batches)
    return {"padding": padding / max(computed, 1), "shared": shared / max(tokens, 1)}
