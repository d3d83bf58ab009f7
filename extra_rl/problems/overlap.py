r"""Whether a training problem is, or nearly is, a benchmark problem.

A training problem overlaps a benchmark problem when their statements are equal after normalisation ("equal"), when it
holds at least 75 % of the benchmark problem's distinct word 8-grams ("8-grams"), or when they share a word 13-gram
("13-gram"). A statement of fewer than 8 words has no 8-gram, so equality alone decides there. Source: our decision,
docs/decisions/0008 (13-grams as in Brown et al. 2020, appendix C; the share of 8-grams finds statements that were
shortened or extended).

Figures in Asymptote code count for equality and not for n-grams: two problems often share the code of a coordinate
grid. Chinese and other unspaced scripts count one character a word. A translation is not found.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

SHARE_WORDS, SHARED_WORDS = 8, 13
LEAST_SHARE = 0.75

Rule = Literal["equal", "8-grams", "13-gram"]
Gram = tuple[str, ...]

_FIGURE = re.compile(r"\[asy\].*?(?:\[/asy\]|\Z)", re.DOTALL)
_LAYOUT = re.compile(
    r"\\(?:left|right|displaystyle|limits|qquad|quad|bigl?|bigr?|Bigl?|Bigr?|text[a-z]*|mathrm|mathbf|mathit|mbox"
    r"|operatorname|rm|bf|begin|end|tag)(?![A-Za-z])\*?|\\[,;:! \\]|[~$]|\\[()\[\]]"
)
_FRACTION = re.compile(r"\\[dtc]frac(?![A-Za-z])")
_SINGLE = re.compile(r"\{([^{}\\]|\\[A-Za-z]+)\}")
_THOUSANDS = re.compile(r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?![\d,])")
_PROSE_MARK = re.compile(r"[;:?\"'`“”‘’…。，、；：？]|[.,](?!\d)|(?<!\d)[.,]")
_MATH = re.compile(r"\$\$(.+?)\$\$|\$(.+?)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_TEXT = re.compile(r"\\(?:text[a-z]*|mathrm|mbox|operatorname|begin|end)\s*\{([^{}]*)\}")
_SENTENCE = re.compile(r"(?<![\\A-Za-z])(?:[A-Za-z]{5,}|and|for|the|each|cost|costs|than|with)(?![A-Za-z])")
_WORD = re.compile(r"\d+|[a-z]+|[^\W\da-z_]")
_SYMBOL = re.compile(r"\d+|\\[a-z]+|[^\W\d_]")


@dataclass(frozen=True)
class Overlap:
    """The benchmark problem that a training problem overlaps.

    share: of the benchmark problem's distinct 8-grams, those that the training problem holds (1 where equal).
    shared: the 13-gram that decided, for the rule "13-gram"; else empty.
    """

    problem_id: str
    rule: Rule
    share: float
    shared: str = ""


def normalise(statement: str) -> str:
    r"""A statement as it is compared for equality: equal texts are the same problem.

    Unicode NFKC, lower case; LaTeX spacing, font and delimiter commands, `$`, white space and sentence punctuation
    dropped; `\dfrac` as `\frac`, braces around a single symbol dropped, 1,000 as 1000. Operators, brackets, decimal
    points and the commas between numbers stay: x + 1 is not x - 1, and (1, 2) is not (12).
    """
    text = unicodedata.normalize("NFKC", statement)
    text = _FRACTION.sub(r"\\frac", _LAYOUT.sub(" ", text)).lower()
    text = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), text)
    text = re.sub(r"(?<=\d),\s+(?=\d)", ",", text)
    text = _SINGLE.sub(r"\1", _PROSE_MARK.sub(" ", text))
    return "".join(text.split())


def words(statement: str) -> list[str]:
    r"""The words of a statement for n-grams: runs of letters and of digits, without operators and figures.

    In mathematics (between `$` and the like) every letter is a word of its own, so that `xy` is `x y`; a command such
    as `\frac` is one word, and so is each word of a `\text{...}`. What lies between two prices ($5 and $7) is prose.
    """
    text = _FIGURE.sub(" ", unicodedata.normalize("NFKC", statement)).replace(r"\$", " ")
    text = _FRACTION.sub(r"\\frac", text)
    found: list[str] = []
    end = 0
    for match in _MATH.finditer(text):
        found += _WORD.findall(_LAYOUT.sub(" ", text[end : match.start()]).lower())
        found += _mathematical_words(next(group for group in match.groups() if group is not None))
        end = match.end()
    return found + _WORD.findall(_LAYOUT.sub(" ", text[end:]).lower())


def _mathematical_words(formula: str) -> list[str]:
    found: list[str] = []
    pieces = _TEXT.split(formula)  # formula, text, formula, ...
    for number, piece in enumerate(pieces):
        if number % 2 or _SENTENCE.search(piece):
            found += _WORD.findall(piece.lower())
        else:
            found += [word.lstrip("\\") for word in _SYMBOL.findall(_LAYOUT.sub(" ", piece).lower())]
    return found


def grams(sequence: list[str], length: int) -> set[Gram]:
    """The distinct n-grams of a word sequence."""
    return {tuple(sequence[i : i + length]) for i in range(len(sequence) - length + 1)}


class BenchmarkIndex:
    """Benchmark problems, indexed for `find`. problems: problem_id -> statement."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        self._equal: dict[str, str] = {}
        self._pieces: dict[str, int] = {}
        self._short: defaultdict[Gram, list[str]] = defaultdict(list)
        self._long: defaultdict[Gram, list[str]] = defaultdict(list)
        for problem_id, statement in problems.items():
            self._equal.setdefault(normalise(statement), problem_id)
            sequence = words(statement)
            short = grams(sequence, SHARE_WORDS)
            self._pieces[problem_id] = len(short)
            for gram in short:
                self._short[gram].append(problem_id)
            for gram in grams(sequence, SHARED_WORDS):
                self._long[gram].append(problem_id)

    def find(self, statement: str, set_phrases: frozenset[Gram] = frozenset()) -> Overlap | None:
        """The benchmark problem that a statement overlaps, or None: the equal one, else the one with the largest
        share of 8-grams, else one with a common 13-gram that is not among `set_phrases`."""
        if equal := self._equal.get(normalise(statement)):
            return Overlap(equal, "equal", 1.0)
        sequence = words(statement)
        held = Counter(name for gram in grams(sequence, SHARE_WORDS) for name in self._short.get(gram, ()))
        shares = {name: count / self._pieces[name] for name, count in held.items()}
        best = max(shares, key=lambda name: (shares[name], name), default=None)
        if best is not None and shares[best] >= LEAST_SHARE:
            return Overlap(best, "8-grams", shares[best])
        shared = [gram for gram in grams(sequence, SHARED_WORDS) if gram in self._long and gram not in set_phrases]
        if not shared:
            return None
        name, gram = max(
            ((name, gram) for gram in shared for name in self._long[gram]), key=lambda p: (shares[p[0]], p)
        )
        return Overlap(name, "13-gram", shares[name], " ".join(gram))

    def set_phrases(self, statements: Iterable[str], more_than: int) -> frozenset[Gram]:
        """The benchmarks' 13-grams that more than so many of the statements hold."""
        counts = Counter(
            gram for statement in statements for gram in grams(words(statement), SHARED_WORDS) if gram in self._long
        )
        return frozenset(gram for gram, count in counts.items() if count > more_than)
