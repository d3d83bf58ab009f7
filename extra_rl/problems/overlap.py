"""Whether a training problem is, or nearly is, a benchmark problem.

A training problem overlaps a benchmark problem when their statements are equal after normalisation ("equal"), when it
contains at least 75 % of the benchmark problem's distinct word 8-grams ("8-grams"), or when they share a word 13-gram
("13-gram"). A statement of fewer than 8 words has no 8-gram, so equality alone decides there.

n-grams that belong to a template (`extra_rl.problems.templates`) are no evidence:

- A benchmark problem with more than three quarters of its 8-grams in templates is itself an instance of one. By n-grams
  it overlaps only statements that contain its slots: the same numbers, operators and other words that vary, in a row.
- For any other benchmark problem, these n-grams are left out of the share, and none of them counts as a shared 13-gram.

Source: our decision, docs/decisions/0008 (13-grams as in Brown et al. 2020, appendix C; the share of 8-grams finds
statements that were shortened or extended). A translation is not found.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from extra_rl.problems.statements import Gram, grams, normalise, words
from extra_rl.problems.templates import NO_TEMPLATES, Slots, Templates

SHARE_WORDS, SHARED_WORDS = 8, 13
LEAST_SHARE = 0.75

Rule = Literal["equal", "8-grams", "13-gram"]


@dataclass(frozen=True)
class Overlap:
    """The benchmark problem that a training problem overlaps.

    share: fraction of the benchmark problem's distinct 8-grams that the training problem contains (1 where equal).
    shared: the 13-gram that decided, for the rule "13-gram"; else empty.
    """

    problem_id: str
    rule: Rule
    share: float
    shared: str = ""


@dataclass(frozen=True)
class _Benchmark:
    """One benchmark problem: its number of distinct 8-grams, how many of them belong to no template, and its slots."""

    grams: int
    evidence: int
    slots: Slots

    @property
    def templated(self) -> bool:
        """Whether the statement is an instance of a template: more than three quarters of its 8-grams belong to one."""
        return 4 * self.evidence < self.grams


class BenchmarkIndex:
    """Benchmark problems, indexed for `find`.

    Args:
        problems: problem_id -> statement.
        templates: the n-grams that are no evidence; `NO_TEMPLATES`: every n-gram is evidence.
    """

    def __init__(self, problems: Mapping[str, str], templates: Templates = NO_TEMPLATES) -> None:
        self._templates = templates
        self._equal: dict[str, str] = {}
        self._benchmarks: dict[str, _Benchmark] = {}
        self._short: defaultdict[Gram, list[str]] = defaultdict(list)
        self._long: defaultdict[Gram, list[str]] = defaultdict(list)
        for problem_id, statement in problems.items():
            self._equal.setdefault(normalise(statement), problem_id)
            sequence = words(statement)
            short = grams(sequence, SHARE_WORDS)
            for gram in short:
                self._short[gram].append(problem_id)
            for gram in grams(sequence, SHARED_WORDS):
                self._long[gram].append(problem_id)
            evidence = sum(not templates.cover(gram) for gram in short)
            self._benchmarks[problem_id] = _Benchmark(len(short), evidence, templates.slots(statement, sequence))
        self._no_evidence = {gram for gram in (*self._short, *self._long) if templates.cover(gram)}

    def find(self, statement: str, sequence: Sequence[str] | None = None, every_gram: bool = False) -> Overlap | None:
        """Return the benchmark problem that a statement overlaps, None where there is none.

        It is the equal one, else the one with the largest share of 8-grams, else one with a common 13-gram.

        Args:
            sequence: the statement's `words`, where they are known.
            every_gram: n-grams of templates are evidence too.
        """
        if equal := self._equal.get(normalise(statement)):
            return Overlap(equal, "equal", 1.0)
        sequence = words(statement) if sequence is None else sequence
        short = self._common(sequence, SHARE_WORDS, self._short)
        if not short:  # then there is no 13-gram either
            return None
        slots = None if every_gram else self._templates.slots(statement, sequence)
        shares = {name: self._share(name, found, slots) for name, found in short.items()}
        best = max(shares, key=lambda name: (shares[name], name), default=None)
        if best is not None and shares[best] >= LEAST_SHARE:
            return Overlap(best, "8-grams", shares[best])
        long = self._common(sequence, SHARED_WORDS, self._long)
        shared = [(shares[n], n, gram) for n, found in long.items() for gram in self._counted(n, found, slots)]
        if not shared:
            return None
        share, name, gram = max(shared)
        return Overlap(name, "13-gram", share, " ".join(gram))

    def _common(self, sequence: Sequence[str], length: int, index: Mapping[Gram, list[str]]) -> dict[str, list[Gram]]:
        """Benchmark problem -> the distinct n-grams that a word sequence shares with it."""
        found: defaultdict[str, list[Gram]] = defaultdict(list)
        for gram in grams(sequence, length):
            for name in index.get(gram, ()):
                found[name].append(gram)
        return found

    def _share(self, name: str, common: list[Gram], slots: Slots | None) -> float:
        """Share of a benchmark problem's 8-grams that count, of those that a statement with these slots has too."""
        known = self._benchmarks[name]
        total = known.grams if slots is None or known.templated else known.evidence
        return len(self._counted(name, common, slots)) / total if total else 0.0

    def _counted(self, name: str, common: list[Gram], slots: Slots | None) -> list[Gram]:
        """The n-grams that are evidence. slots: of the statement that shares them; None: all are evidence."""
        known = self._benchmarks[name]
        if slots is None:
            return common
        if known.templated:
            return common if known.slots.within(slots) else []
        return [gram for gram in common if gram not in self._no_evidence]
