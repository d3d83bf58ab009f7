r"""Removal of training problems: benchmark problems, repetitions, contradictory or unmatchable reference answers.

Each function returns the problems that are kept, and the removed ones with the reason. The verifier compares reference
answers in its killable workers: 1/2 and \frac{1}{2} are the same answer.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress

from extra_rl.config.sections import TaskConfig, VerifierConfig
from extra_rl.problems.overlap import BenchmarkIndex
from extra_rl.problems.sources import RawProblem
from extra_rl.problems.statements import normalise, words
from extra_rl.problems.templates import find_templates


@dataclass(frozen=True)
class Removed:
    """A removed training problem, the rule (contract DroppedProblems), and the reason."""

    problem: RawProblem
    rule: str
    reason: str
    other_problem_id: str | None = None
    share: float | None = None


Cleaned = tuple[list[RawProblem], list[Removed]]


@dataclass(frozen=True)
class Separated:
    """Training problems without those that overlap a benchmark.

    by_rule: removed problems by rule of `Overlap`. spared: problems that only the n-grams of templates would remove.
    """

    kept: list[RawProblem]
    removed: list[Removed]
    by_rule: Counter[str]
    spared: int


def without_overlap(
    problems: Sequence[RawProblem], benchmarks: Sequence[RawProblem], template_share: float
) -> Separated:
    """Return the problems that overlap no benchmark problem (`overlap`), and the others.

    template_share: n-grams of what more than this share of a source's rows have in common are no evidence
    (`templates`); 0: every n-gram is.
    """
    sequences = {problem.problem_id: words(problem.text) for problem in (*problems, *benchmarks)}
    sources: defaultdict[str, list[list[str]]] = defaultdict(list)
    for problem in (*problems, *benchmarks):
        sources[problem.benchmark].append(sequences[problem.problem_id])
    templates = find_templates(sources.values(), template_share)
    index = BenchmarkIndex({problem.problem_id: problem.text for problem in benchmarks}, templates)
    kept, removed = [], []
    by_rule: Counter[str] = Counter()
    spared = 0
    for problem in problems:
        found = index.find(problem.text, sequences[problem.problem_id])
        if found is None:
            kept.append(problem)
            spared += index.find(problem.text, sequences[problem.problem_id], every_gram=True) is not None
            continue
        by_rule[found.rule] += 1
        reason = {
            "equal": f"equal to {found.problem_id}",
            "8-grams": f"holds {found.share:.0%} of the word 8-grams of {found.problem_id}",
            "13-gram": f"shares a word 13-gram with {found.problem_id}: {found.shared}",
        }[found.rule]
        removed.append(Removed(problem, "overlap", reason, found.problem_id, found.share))
    return Separated(kept, removed, by_rule, spared)


def without_repetition(problems: Sequence[RawProblem], verifier: VerifierConfig | None) -> Cleaned:
    """Keep the first of the problems with equal normalised text, or none if their reference answers contradict.

    verifier: limits of judging whether two reference answers are equal; None: only equal texts are.
    """
    groups: defaultdict[str, list[RawProblem]] = defaultdict(list)
    for problem in problems:
        groups[normalise(problem.text)].append(problem)
    equal = _same_references([(group[0], other) for group in groups.values() for other in group[1:]], verifier)
    reasons: dict[str, Removed] = {}
    for first, *others in groups.values():
        different = [other for other in others if not equal[first.problem_id, other.problem_id]]
        if different:
            for member in (first, *others):
                other = different[0] if member is first else first
                answers = f"reference answers {shortened(first.answer)} and {shortened(different[0].answer)}"
                reason = f"same problem with different {answers}: {first.problem_id}, {different[0].problem_id}"
                reasons[member.problem_id] = Removed(member, "contradictory", reason, other.problem_id)
        else:
            for other in others:
                reason = f"repeats {first.problem_id}"
                reasons[other.problem_id] = Removed(other, "duplicate", reason, first.problem_id)
    return (
        [p for p in problems if p.problem_id not in reasons],
        [reasons[p.problem_id] for p in problems if p.problem_id in reasons],
    )


def _same_references(
    pairs: list[tuple[RawProblem, RawProblem]], verifier: VerifierConfig | None
) -> dict[tuple[str, str], bool]:
    """Return for each pair whether the texts are the same, or the second is judged correct by the first."""
    from extra_rl.judging.dispatch import Answer, judge_answers
    from extra_rl.verdict import Verdict

    found = {(a.problem_id, b.problem_id): True for a, b in pairs}
    doubtful = [pair for pair in pairs if pair[0].answer.strip() != pair[1].answer.strip()]
    if verifier is None:
        return found | {(a.problem_id, b.problem_id): False for a, b in doubtful}
    answers = [Answer("", a.answer, _as_response(b.answer), True) for a, b in doubtful]
    verdicts = judge_answers(answers, TaskConfig(name="math"), verifier) if answers else []
    for (a, b), judgement in zip(doubtful, verdicts, strict=True):
        found[a.problem_id, b.problem_id] = judgement.verdict is Verdict.RIGHT
    return found


def _as_response(reference: str) -> str:
    """Return a reference answer as a response: a worked solution unchanged, a bare answer in a box."""
    return reference if r"\boxed" in reference or "####" in reference else rf"\boxed{{{reference}}}"


def without_unverifiable(
    problems: Sequence[RawProblem], verifier: VerifierConfig, progress: Callable[[int], object] | None = None
) -> Cleaned:
    """Remove problems whose reference answer does not match itself, so that no response could be correct."""
    from extra_rl.judging.check import REASONS, check_references

    reasons = check_references([problem.answer for problem in problems], verifier, progress)
    removed = [
        Removed(problem, "unverifiable", f"reference answer {shortened(problem.answer)}: {REASONS.get(reason, reason)}")
        for problem, reason in zip(problems, reasons, strict=True)
        if reason is not None
    ]
    return list(compress(problems, [reason is None for reason in reasons])), removed


def shortened(reference: str) -> str:
    """Return a reference answer cut to one line's length, for messages."""
    return reference if len(reference) <= 60 else f"{reference[:57]}..."
