r"""Golds that do not match themselves: answers against which nothing can be judged.

A gold passes if the verifier can read it, and if its own text, given as the boxed answer of a response, is right. One
that fails would turn every right response into a wrong one, silently, so `prepare` leaves its problem out and
`extra check-golds` lists it. Source: our decision.
"""

from __future__ import annotations

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
