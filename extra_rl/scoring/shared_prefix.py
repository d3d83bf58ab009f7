"""Token sequences laid out in one row, where what several begin with stands once: the places of a trie.

Sequences in lexicographic order share most with their neighbour: the longest prefix that a sequence has in common with
any before it is the one it has in common with the last. So the trie needs no nodes: every sequence adds one segment,
its tokens behind that common prefix, and finds the tokens before it at places that the row already has. Prompts of a
group, prefixes of regenerated rollouts, sequences that are a prefix of another and duplicates are all the same case.

Sources: the idea is that of prefix trees in inference (RadixAttention, arXiv 2312.07104) and of shared prompts in
training (Prefix Grouper, arXiv 2506.05433); the layout is our decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Row:
    """Sequences in one row of N tokens.

    tokens_N, position_N: token ids, and how many tokens come before each in its sequence.
    places: for every sequence, in the order given, where its tokens stand in the row.
    queries, keys: for every segment, in the order of the row, its tokens and those that they may look at: all on the
        way from the first token to the segment's last. They end together, so that causal means aligned at the ends.
    key_places: where those tokens stand, segment after segment; None where every segment is a whole sequence and its
        keys are its own tokens.
    """

    tokens_N: Places
    position_N: Places
    places: list[Places]
    queries: list[int]
    keys: list[int]
    key_places: Places | None

    def __len__(self) -> int:
        return len(self.tokens_N)


def common_prefix(one: Places, other: Places) -> int:
    """How many tokens two sequences begin with alike."""
    width = min(len(one), len(other))
    differ = np.flatnonzero(one[:width] != other[:width])
    return int(differ[0]) if len(differ) else width


def trie_order(sequences: Sequence[Places]) -> list[int]:
    """Indices in lexicographic order of the tokens; equal sequences stay in the order given."""
    return sorted(range(len(sequences)), key=lambda i: sequences[i].tolist())


def lay_out(sequences: Sequence[Places], *, share: bool) -> Row:
    """All sequences in one row: with `share`, common prefixes once; else one sequence after another."""
    order = trie_order(sequences) if share else range(len(sequences))
    places: list[Places] = [np.zeros(0, np.int64)] * len(sequences)
    parts: list[Places] = []
    queries, keys, paths = [], [], []
    total, before = 0, -1
    for i in order:
        tokens = sequences[i]
        shared = common_prefix(sequences[before], tokens) if share and before >= 0 else 0
        added = len(tokens) - shared
        places[i] = np.arange(total, total + added)
        if shared:
            places[i] = np.concatenate([places[before][:shared], places[i]])
        if added:
            parts.append(tokens[shared:])
            queries.append(added)
            keys.append(len(tokens))
            paths.append(places[i])
        total, before = total + added, i
    return Row(
        np.concatenate([np.zeros(0, np.int64), *parts]),
        np.concatenate([np.zeros(0, np.int64), *(np.arange(k - q, k) for q, k in zip(queries, keys, strict=True))]),
        places,
        queries,
        keys,
        np.concatenate(paths) if queries != keys else None,
    )
