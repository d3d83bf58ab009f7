"""Token sequences laid out in one row that contains each shared prefix once: the layout of a trie.

In lexicographic order, the longest prefix that a sequence shares with any sequence before it is the one that it shares
with its predecessor. So the trie needs no nodes: every sequence adds one segment, its tokens after that prefix, and its
earlier tokens are at places that the row already has. Prompts of a group, prefixes of continuations, sequences that are
a prefix of another, and duplicates are all the same case.

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

    tokens_N, position_N: token ids, and how many tokens precede each in its sequence.
    places: for every sequence, in the order given, the indices of its tokens in the row.
    queries, keys: for every segment, in the order of the row, the number of its tokens, and the number of tokens that
        they may attend to: the whole path from the first token to the segment's last. Both end at the same token, so
        causal attention is aligned at the ends.
    key_places: indices of those keys, segment after segment; None where every segment is a whole sequence, whose keys
        are its own tokens.
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
    """Return the number of tokens at the start that two sequences have in common."""
    width = min(len(one), len(other))
    differ = np.flatnonzero(one[:width] != other[:width])
    return int(differ[0]) if len(differ) else width


def trie_order(sequences: Sequence[Places]) -> list[int]:
    """Return indices in lexicographic order of the tokens; equal sequences keep their order."""
    return sorted(range(len(sequences)), key=lambda i: sequences[i].tolist())


def lay_out(sequences: Sequence[Places], *, share: bool) -> Row:
    """Lay all sequences out in one row. share: common prefixes once; else one sequence after another."""
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
        if shared:  # the path begins with the predecessor's
            places[i] = np.concatenate([places[before][:shared], places[i]])
        if added:  # a duplicate, or a prefix of its predecessor, adds no segment
            parts.append(tokens[shared:])
            queries.append(added)
            keys.append(len(tokens))
            paths.append(places[i])
        total, before = total + added, i
    # A segment's queries are the last tokens of its path: positions keys - queries, ..., keys - 1.
    return Row(
        np.concatenate([np.zeros(0, np.int64), *parts]),
        np.concatenate([np.zeros(0, np.int64), *(np.arange(k - q, k) for q, k in zip(queries, keys, strict=True))]),
        places,
        queries,
        keys,
        np.concatenate(paths) if queries != keys else None,
    )
