r"""Reference answers that cannot be judged against: those that do not match themselves, and those that are prose.

A reference answer passes if the verifier can read it, and if its own text, given as the boxed answer of a response, is
correct. One that fails would turn every correct response into an incorrect one, silently, so `prepare` leaves its
problem out and `extra check-answers` lists it.

Words match themselves too: "Paris" equals "Paris". A set of such references belongs to another task, and its prose
would be compared letter by letter, so `prepare` counts them (`is_prose`). Source: our decision.
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
    "empty": "there is no answer in it",
    "unbalanced": "its braces or brackets do not close",
    "unparsed": "it holds a formula that the parser does not know",
    "several_answers": "in a box of its own it reads as several answers",
    "not_found": "in a box of its own it is not found",
    "different": "in a box of its own it is not equal to itself",
    "too_long": "it is longer than verifier.max_chars",
    "timeout": "its judgement exceeds verifier.timeout_s or verifier.memory_mb",
    "error": "the verifier fails on it",
}
"""What each reason means, for a reader."""


LONGEST_UNIT = 5
"""Words that a number's unit may have: `5 miles per hour`."""

_COMMAND = re.compile(r"\\([A-Za-z]+)")
_TEXT_COMMANDS = frozenset(["text", "textbf", "textit", "textrm", "mathrm", "mbox", "mathbf"])
_WORDS = re.compile(r"(?!(?:pi|oo|inf|infty|infinity)(?![^\W\d_]))[^\W\d_]{2,}")
_MATHEMATICS = re.compile(r"[\d+=^<>/π∞√≤≥×÷%°$]|(?<!\w)-|-(?!\w)")


def is_prose(gold: str) -> bool:
    r"""Whether a reference answer is words or code and not mathematics.

    Prose: words without a digit, an operator or a LaTeX symbol (`Paris`, `\text{yes}`), more than `LONGEST_UNIT` words
    of two letters or more, and several lines. Not prose: a formula, a number with its unit, a single letter (`B`,
    `\text{(C)}`), and whatever does not contain a word.
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


def check_golds(
    golds: Sequence[str], verifier: VerifierConfig, progress: Callable[[int], object] | None = None
) -> list[str | None]:
    """For each gold None, or why nothing can be judged against it: a key of `REASONS`. In the order of the golds.

    Equal golds are judged once, in the verifier's killable workers: a gold may hang the parser too.
    progress: called whenever one is judged, with the number of golds that this settles (roughly: workers finish in any
    order); the numbers add up to that of the golds.
    """
    times = Counter(golds)
    counts = iter(times.values())
    judgements = judge_in_pool(
        GoldCheck(verifier.policy),
        [Item(gold, gold) for gold in times],
        verifier,
        progress=(lambda _: progress(next(counts))) if progress else None,
    )
    reasons = dict(zip(times, map(_reason, judgements), strict=True))
    return [reasons[gold] for gold in golds]


@dataclass(frozen=True)
class GoldCheck:
    """Judges an item's gold by itself; picklable, for `judge_in_pool`. The rule of a failure is a key of `REASONS`."""

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
