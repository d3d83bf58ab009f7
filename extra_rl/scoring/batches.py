"""Token sequences and their micro-batches: which are computed together, within a budget of tokens, by which process.

Rollouts of one group share their prompt, and continuations share a long prefix: with the layout `shared_prefix` they
form a piece that is kept together as far as the budget allows. In other layouts every row is a separate piece.
Source: our decision.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from extra_rl.scoring.shared_prefix import common_prefix, trie_order

PADDING = 0.05
"""Largest share of padding in a micro-batch: beyond it, another pass costs less (measured, docs/arithmetic.md)."""


@dataclass(frozen=True)
class TokenSequence:
    """A prompt and its response, as token ids."""

    prompt: Sequence[int]
    response: Sequence[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.response)

    @property
    def tokens(self) -> npt.NDArray[np.int64]:
        """Prompt and response in one array."""
        return np.array([*self.prompt, *self.response], np.int64)


class Piece(NamedTuple):
    """Rows that are computed together: a group's before `fill`, a micro-batch's after it.

    rows: indices into the sequences. tokens: length of all sequences. computed: tokens that the layers run on.
    """

    rows: list[int]
    tokens: int
    computed: int


def pieces_of(sequences: Sequence[TokenSequence], layout: str, limit: int) -> list[Piece]:
    """Return the pieces to keep together, each of at most `limit` computed tokens unless it is a single row."""
    if layout != "shared_prefix":
        return [Piece([row], len(sequence), len(sequence)) for row, sequence in enumerate(sequences)]
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, sequence in enumerate(sequences):
        groups.setdefault(tuple(sequence.prompt), []).append(row)
    return [piece for rows in groups.values() for piece in _cut(sequences, rows, limit)]


def _cut(sequences: Sequence[TokenSequence], rows: Sequence[int], limit: int) -> list[Piece]:
    """Return the rows of one prompt in the order of their trie, cut where the next row would exceed the limit."""
    tokens = [sequences[row].tokens for row in rows]
    pieces: list[Piece] = []
    before = None
    for i in trie_order(tokens):
        length = len(tokens[i])
        # In this order the prefix shared with the row before is the longest shared with any row of the piece.
        added = length - (common_prefix(before, tokens[i]) if before is not None else 0)
        before = tokens[i]
        if pieces and pieces[-1].computed + added <= limit:
            last = pieces[-1]
            pieces[-1] = Piece([*last.rows, rows[i]], last.tokens + length, last.computed + added)
        else:  # the first row of a piece pays for its whole sequence
            pieces.append(Piece([rows[i]], length, length))
    return pieces


def fill(pieces: Sequence[Piece], layout: str, budget: int) -> list[Piece]:
    """Join pieces to micro-batches of at most `budget` computed tokens, or of one piece; every row is in one of them.

    `padded`: neighbours in length (`micro_batches`). Other layouts have no padding to avoid: first fit, longest pieces
    first, which needs at most 22 % more batches than the optimum (Johnson 1973).
    """
    if layout == "padded":
        batches = micro_batches([piece.tokens for piece in pieces], budget)
        return [_joined([pieces[i] for i in batch], padded=True) for batch in batches]
    bins: list[list[Piece]] = []
    free: list[int] = []  # tokens left in each bin
    for piece in sorted(pieces, key=lambda piece: -piece.computed):
        place = next((k for k, left in enumerate(free) if piece.computed <= left), len(bins))
        if place == len(bins):
            bins.append([])
            free.append(budget)
        bins[place].append(piece)
        free[place] -= piece.computed
    return [_joined(found, padded=False) for found in bins]


def micro_batches(lengths: Sequence[int], token_budget: int) -> Iterator[list[int]]:
    """Yield indices in batches of at most `token_budget` padded tokens (at least one row), longest first.

    Sorting by length keeps padding small; a batch also ends where the next row would raise its share of padding above
    PADDING. Rows of equal length keep their order. Source: our decision.
    """
    batch: list[int] = []
    tokens = 0
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        # The first row is the longest, so it sets the width of the batch with the next row added.
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
    """Return each process's micro-batches of at most `budget` tokens; every row is in one of them.

    A piece is never split between processes, and is cut small enough that each process can take an equal share of the
    tokens. Every process computes the same global plan, so no communication is needed.

    Args:
        sequences: of the mini-batch.
        layout: as `layout.chosen` returns it.
        budget: computed tokens of a micro-batch.
        processes: number of processes.
    """
    fair = -(-sum(map(len, sequences)) // processes)
    pieces = pieces_of(sequences, layout, min(budget, fair))
    parts = shares([piece.computed for piece in pieces], processes)
    return [fill([pieces[i] for i in part], layout, budget) for part in parts]


def shares(lengths: Sequence[int], count: int) -> list[list[int]]:
    """Return indices in `count` shares of nearly equal sums: longest first, each to the share with the smallest sum.

    Indices ascend within a share; a share is empty where there are fewer rows than shares. Source: longest processing
    time first (Graham 1969), at most 4/3 of the best possible maximum.
    """
    parts: list[list[int]] = [[] for _ in range(count)]
    sums = [0] * count
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        part = min(range(count), key=lambda k: (sums[k], k))
        parts[part].append(index)
        sums[part] += lengths[index]
    return [sorted(part) for part in parts]


def computed_of_rows(batch: Piece, sequences: Sequence[TokenSequence], layout: str) -> list[int]:
    """Return the batch's computed tokens by row, in its order; they add up to `computed`.

    A shared prefix counts for the row before. batch: as `fill` returns it, where rows of one piece are neighbours.
    """
    rows = [sequences[row] for row in batch.rows]
    if layout == "padded":
        return [max(map(len, rows))] * len(rows)
    if layout != "shared_prefix":
        return [len(row) for row in rows]
    computed = [len(row) for row in rows]
    for place in range(1, len(rows)):
        previous, row = rows[place - 1], rows[place]
        if tuple(previous.prompt) == tuple(row.prompt):  # nothing is counted as shared across prompts
            computed[place] -= common_prefix(previous.tokens, row.tokens)
    return computed


def token_shares(batches: Sequence[Piece]) -> dict[str, float]:
    """Return two shares, 0 for no batch.

    padding: share of the computed tokens that belong to no sequence. shared: share of the sequences' tokens that were
    not computed, because another sequence of the micro-batch begins with them.
    """
    computed, tokens = sum(b.computed for b in batches), sum(b.tokens for b in batches)
    padding = sum(max(0, b.computed - b.tokens) for b in batches)
    shared = sum(max(0, b.tokens - b.computed) for b in batches)
    return {"padding": padding / max(computed, 1), "shared": shared / max(tokens, 1)}
