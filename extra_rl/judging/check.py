r"""Checks of reference answers: do they match themselves, and are they mathematics?

A reference answer passes if the verifier can parse it, and if a response with its text in a box is judged correct. With
one that fails, every correct response would silently be judged incorrect, so `prepare` leaves its problem out and
`extra check-answers` lists it.

Words match themselves too: "Paris" equals "Paris". References that are prose belong to another task and would be
compared letter by letter, so `prepare` counts them (`is_prose`). Source: our decision.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from extra_rl.config.sections import VerifierConfig
from extra_rl.judging.pool import judge_in_pool
from extra_rl.verdict import Judgement, Verdict
from mathjudge import Item, Policy, judge
from mathjudge.reference import reference_problem, reference_text

REASONS = {
    "empty": "it contains no answer",
    "unbalanced": "its braces or brackets do not close",
    "unparsed": "it contains a formula that the parser does not know",
    "several_answers": "its text in a box is read as several answers",
    "not_found": "its text in a box is not found",
    "different": "its text in a box is not equal to it",
    "too_long": "it is longer than verifier.max_chars",
    "timeout": "judging it exceeds verifier.timeout_s or verifier.memory_mb",
    "error": "the verifier fails on it",
}
"""Reason -> its explanation, which messages and the table of dropped problems show."""

LONGEST_UNIT = 5
"""Largest number of words in a number's unit: `5 miles per hour`."""

_COMMAND = re.compile(r"\\([A-Za-z]+)")
_TEXT_COMMANDS = frozenset(["text", "textbf", "textit", "textrm", "mathrm", "mbox", "mathbf"])
_WORDS = re.compile(r"(?!(?:pi|oo|inf|infty|infinity)(?![^\W\d_]))[^\W\d_]{2,}")
_MATHEMATICS = re.compile(r"[\d+=^<>/π∞√≤≥×÷%°$]|(?<!\w)-|-(?!\w)")


def is_prose(gold: str) -> bool:
    r"""Return whether a reference answer is words or code instead of mathematics.

    Prose: words without a digit, an operator or a LaTeX symbol (`Paris`, `\text{yes}`), more than `LONGEST_UNIT` words
    of two letters or more, and several lines. Not prose: a formula, a number with its unit, a single letter (`B`,
    `\text{(C)}`), and any text without a word.
    """
    text = reference_text(gold)
    commands = set(_COMMAND.findall(text)) - _TEXT_COMMANDS
    if "begin" in commands:  # a matrix or a system of equations
        return False
    plain = _COMMAND.sub(" ", text)
    count = len(_WORDS.findall(plain))
    if count > LONGEST_UNIT or (count and "\n" in plain.strip()):
        return True
    return count > 0 and not commands and not _MATHEMATICS.search(plain)


def check_references(
    references: Sequence[str], verifier: VerifierConfig, progress: Callable[[int], object] | None = None
) -> list[str | None]:
    """Return for each reference answer None, or why it cannot be matched: a key of `REASONS`. In order.

    Equal references are judged once, in the verifier's killable workers, because one may hang the parser.

    Args:
        references: the texts, as a source contains them.
        verifier: policy and limits.
        progress: called once per distinct reference, with a number of equal ones. Workers finish in any order, so a
            single number may belong to another reference; the sum is the number of references.
    """
    times = Counter(references)
    counts = iter(times.values())
    judgements = judge_in_pool(
        ReferenceCheck(verifier.policy),
        [Item(reference, reference) for reference in times],
        verifier,
        progress=(lambda _: progress(next(counts))) if progress else None,
    )
    reasons = dict(zip(times, map(_reason, judgements), strict=True))
    return [reasons[reference] for reference in references]


@dataclass(frozen=True)
class ReferenceCheck:
    """Judge of an item's reference answer against itself. The rule of a failure is a key of `REASONS`.

    It is picklable, for `judge_in_pool`.
    """

    policy: Policy

    def __call__(self, item: Item) -> Judgement:
        if problem := reference_problem(item.gold):
            return Judgement(Verdict.GOLD_UNPARSEABLE, None, problem)
        found = judge(item.gold, rf"The answer is \boxed{{{reference_text(item.gold)}}}", self.policy)
        if found.verdict is Verdict.RIGHT:
            return found
        decided = found.rule.rpartition("/")[2]
        return Judgement(found.verdict, found.extracted, decided if decided in REASONS else "not_found")


def _reason(judgement: Judgement) -> str | None:
    if judgement.verdict is Verdict.RIGHT:
        return None
    if judgement.verdict in (Verdict.TIMEOUT, Verdict.ERROR):
        return judgement.verdict.value
    return judgement.rule
