"""Templates in sets of problems: what many rows share, and the slots in which they differ.

Generated problems are instances of a template ("Alice has 3 apples and buys 4 more ..."), and competition problems end
in set phrases ("where m and n are relatively prime positive integers"). Two statements that share such words need not
be the same problem. Templates are found by counting rows, numbers alike:

- A word trigram, or a pair of words around another one, is frequent if more than a stated share of a source's rows
  contain it, and more than `LEAST_ROWS`.
- A number is a slot. So is a word between a frequent pair, unless at least half of the rows with that pair have it.
- An n-gram belongs to a template if each of its words is a slot or lies in a frequent trigram. One rare word elsewhere
  makes it evidence.

Source: our decision, docs/decisions/0008.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from extra_rl.problems.statements import Gram, operators

TEMPLATE_SHARE = 0.01
"""Default of `prepare.template_share`."""

LEAST_ROWS = 10
"""A trigram of at most this many rows of a source is never frequent: a small set has no templates."""

NUMBER = "#"
EDGE = ""


@dataclass(frozen=True)
class Slots:
    """What a statement puts into a template: the words that vary, and all its operators, both in order."""

    words: Gram
    operators: tuple[str, ...]

    def within(self, other: Slots) -> bool:
        """Whether there are slots, and another statement has the same ones in a row: it may go on or begin earlier."""
        return bool(self.words) and _contains(other.words, self.words) and _contains(other.operators, self.operators)


def _contains(sequence: Gram, part: Gram) -> bool:
    return any(sequence[n : n + len(part)] == part for n in range(len(sequence) - len(part) + 1))


@dataclass(frozen=True)
class Templates:
    """The templates of some sources.

    frequent: frequent trigrams. contexts: frequent pairs of words around another one. fixed: trigrams whose middle word
    at least half of the rows with that pair have.
    """

    frequent: frozenset[Gram] = frozenset()
    contexts: frozenset[Gram] = frozenset()
    fixed: frozenset[Gram] = frozenset()

    def cover(self, gram: Sequence[str]) -> bool:
        """Whether each word of an n-gram is a slot or lies in a frequent trigram, both within the n-gram."""
        if not self.frequent:
            return False
        masked = _masked(gram)
        covered = [False] * len(masked)
        for n in range(1, len(masked) - 1):
            trigram = (masked[n - 1], masked[n], masked[n + 1])
            if trigram in self.frequent:
                covered[n - 1 : n + 2] = [True] * 3
            elif (trigram[0], trigram[2]) in self.contexts and trigram not in self.fixed:
                covered[n] = True
        return all(covered)

    def slots(self, statement: str, sequence: Sequence[str]) -> Slots:
        """Return what varies in a statement. sequence: its `words`."""
        masked = [EDGE, *_masked(sequence), EDGE]
        varying = [
            word
            for n, word in enumerate(sequence)
            if masked[n + 1] == NUMBER
            or ((masked[n], masked[n + 2]) in self.contexts and tuple(masked[n : n + 3]) not in self.fixed)
        ]
        return Slots(tuple(varying), operators(statement))


NO_TEMPLATES = Templates()


def find_templates(sources: Iterable[Sequence[Sequence[str]]], share: float) -> Templates:
    """Return the templates of all sources.

    sources: the `words` of the statements of each source. Sources are counted separately, so that a small generated set
    is recognised next to a large natural one. share: fraction of a source's rows above which a trigram or a pair is
    frequent, in 0 to 1; 0: no templates.
    """
    frequent: set[Gram] = set()
    contexts: set[Gram] = set()
    fixed: set[Gram] = set()
    for rows in sources:
        limit = max(LEAST_ROWS, share * len(rows))
        if share == 0 or len(rows) <= limit:
            continue
        trigrams: Counter[Gram] = Counter()
        around: Counter[Gram] = Counter()
        for sequence in rows:
            masked = [EDGE, *_masked(sequence), EDGE]
            found = {tuple(masked[n : n + 3]) for n in range(len(masked) - 2)}
            trigrams.update(found)
            around.update({(before, behind) for before, _, behind in found if before and behind})
        common = {pair for pair, count in around.items() if count > limit}
        contexts |= common
        fixed |= {g for g, count in trigrams.items() if (g[0], g[2]) in common and 2 * count >= around[g[0], g[2]]}
        frequent |= {gram for gram, count in trigrams.items() if count > limit and EDGE not in gram}
    return Templates(frozenset(frequent), frozenset(contexts), frozenset(fixed))


def _masked(sequence: Sequence[str]) -> list[str]:
    return [NUMBER if word.isdigit() else word for word in sequence]
