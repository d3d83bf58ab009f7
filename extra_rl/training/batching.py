"""Which process computes which micro-batch of a mini-batch."""

from __future__ import annotations

from collections.abc import Sequence

from extra_rl.algorithms.balance import shares
from extra_rl.scoring.batches import Piece, fill, pieces_of
from extra_rl.scoring.sequences import TokenSequence


def plan(sequences: Sequence[TokenSequence], layout: str, budget: int, processes: int) -> list[list[Piece]]:
    """Every process's micro-batches of at most `budget` tokens; every row in one of them.

    Pieces go whole to a process, and are cut small enough that each process can have an equal share of the tokens.
    Every process makes the same plan of all, so that nothing has to be told.
    """
    fair = -(-sum(map(len, sequences)) // processes)
    pieces = pieces_of(sequences, layout, min(budget, fair))
    parts = shares([piece.computed for piece in pieces], processes)
    return [fill([pieces[i] for i in part], layout, budget) for part in parts]
