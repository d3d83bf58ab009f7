"""Micro-batches of token sequences: which are computed together, within a budget of tokens, and by which process.

Rows of one prompt share it, and regenerated rows a long prefix: with the layout `shared_prefix` they form a piece that
stays together, as far as the budget lets it. Else every row is a piece of its own. Source: our decision.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from extra_rl.scoring.sequences import TokenSequence
from extra_rl.scoring.shared_prefix import common_prefix, trie_order

PADDING = 0.05
"""Largest share of a micro-batch that may be padding: another pass costs less than computing more of it (measured,
docs/arithmetic.md)."""


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


def micro_batches(lengths: Sequence[int], token_budget: int) -> Iterator[list[int]]:
    """Indices in batches of at most `token_budget` padded tokens (at least one row), longest first.

    Sorting by length keeps padding small; a batch also ends where the next row would raise its share of padding above
    PADDING. The order within a batch is stable. Source: our decision.
    """
    batch: list[int] = []
    tokens = 0
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        padded = lengths[batch[0]] * (len(batch) + 1) if batch else 0
        if batch and (padded > token_budget or tokens + lengths[index] < (1 - PADDING) * padded):
            yield batch
            batch, tokens = [], 0
        batch.append(index)
        tokens += lengths[index]
    if batch:
        yield batch


def _joined(pieces: Sequence[Piece], *, padded: bool) -> Piece:
    computed = len(pieces) * max(p.computed for p in pieces) if padded else sum(p.computed for p in pieces)
    return Piece([row for p in pieces for row in p.rows], sum(p.tokens for p in pieces), computed)


def micro_batches_by_process(
    sequences: Sequence[TokenSequence], layout: str, budget: int, processes: int
) -> list[list[Piece]]:
    """Micro-batches of at most `budget` tokens for each process of an optimizer step; every row is in one of them.

    A piece is never split between processes, and is cut small enough that each process can take an equal share of the
    tokens. Every process computes the same global plan, so no communication is needed.
    """
    fair = -(-sum(map(len, sequences)) // processes)
    pieces = pieces_of(sequences, layout, min(budget, fair))
    parts = shares([piece.computed for piece in pieces], processes)
    return [fill([pieces[i] for i in part], layout, budget) for part in parts]


def shares(lengths: Sequence[int], count: int) -> list[list[int]]:
    """Indices in `count` shares of nearly equal sums of lengths: longest first, each to the share with least so far.

    Indices ascend within a share; a share is empty where there are fewer rows than shares. Source: the LPT rule
    (Graham 1969), at most 4/3 of the best possible maximum.
    """
    parts: list[list[int]] = [[] for _ in range(count)]
    sums = [0] * count
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        part = min(range(count), key=lambda k: (sums[k], k))
        parts[part].append(index)
        sums[part] += lengths[index]
    return [sorted(part) for part in parts]


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
