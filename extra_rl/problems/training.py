"""The training problems of a mathematics task: checked, cleaned, and counted on the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from extra_rl.config.sections import VerifierConfig
from extra_rl.errors import ConfigError, InputError
from extra_rl.judging.check import is_prose
from extra_rl.problems.clean import (
    Removed,
    shortened,
    without_overlap,
    without_repetition,
    without_unverifiable,
)
from extra_rl.problems.sources import RawProblem, Source
from extra_rl.run.stage import Context

SHOWN = 5
LEAST_PROSE = 5
"""Fewer prose references are an error only if they are more than half of the references."""


def check_prose(sources: Sequence[Source], share: float, context: Context) -> None:
    """Count the reference answers that are prose. Raise InputError for a source where they are more than `share`."""
    for source in sources:
        prose = [problem for problem in source.problems if is_prose(problem.answer)]
        if not prose:
            continue
        count, rows = len(prose), len(source.problems)
        first = "; ".join(f"{problem.place}: {shortened(problem.answer)!r}" for problem in prose[:SHOWN])
        found = f"{source.name}: {count} of {rows} reference answers are words or code and not mathematics"
        if count > share * rows and (count >= LEAST_PROSE or 2 * count > rows):
            raise InputError(
                f"{found}, more than {share:.0%} (prepare.prose_references). {first}. The task `math` compares "
                "formulas: name another column with `answer` of the source, or raise prepare.prose_references."
            )
        context.console.say(
            f"prepare: {found}, which are compared as text (prepare.prose_references: {share:g}). {first}"
        )


def missing_values(sources: Sequence[Source], context: Context) -> list[Removed]:
    """Return the rows that `missing: drop` left out of the training sources."""
    missing = [found for source in sources for found in source.missing]
    if missing:
        context.console.say(
            f"prepare: {len(missing)} rows without a problem, answer or id were left out (`missing: drop` of a source)"
        )
    return [
        Removed(found.problem, "missing", f"{found.problem.place}: no value in {found.column}") for found in missing
    ]


def without_examples(training: list[RawProblem], count: int) -> tuple[list[RawProblem], list[RawProblem]]:
    """Take out the first `count` training problems with a worked solution: the rest, and these.

    A conversation cannot be an example. Raises ConfigError where there are too few.
    """
    examples = [problem for problem in training if problem.solution and problem.conversation is None][:count]
    if len(examples) < count:
        raise ConfigError(
            f"task.examples: {count} training problems with a worked solution are needed, there are {len(examples)}. "
            "Name the column that holds them (`solution` of a source in task.train), or ask for fewer."
        )
    taken = {problem.problem_id for problem in examples}
    return [problem for problem in training if problem.problem_id not in taken], examples


def cleaned(
    given: list[RawProblem],
    benchmarks: list[RawProblem],
    template_share: float,
    verifier: VerifierConfig,
    context: Context,
    *,
    mathematics: bool = True,
) -> tuple[list[RawProblem], list[Removed]]:
    """Return the training problems that may be trained on, and those that were removed. Prints how many, by which rule.

    Args:
        given: the training problems of all sources.
        benchmarks: what they must not overlap.
        template_share: as in `without_overlap`.
        verifier: limits of judging.
        context: for progress and messages.
        mathematics: whether mathjudge judges the answers. For another judge reference answers are texts: they are
            compared letter by letter, and none is unverifiable.
    """
    separated = without_overlap(given, benchmarks, template_share)
    single, repeated = without_repetition(separated.kept, verifier if mathematics else None)
    unverifiable: list[Removed] = []
    kept = single
    if mathematics:
        progress = context.progress(len(single), "prepare: reference answer")
        kept, unverifiable = without_unverifiable(single, verifier, progress.update)
    removed = [*separated.removed, *repeated, *unverifiable]
    counts = Counter(found.rule for found in removed)
    by_rule = ", ".join(f"{rule} {count}" for rule, count in separated.by_rule.items())
    context.console.say(
        f"prepare: of {len(given)} training problems {counts['overlap']} overlap one of {len(benchmarks)} benchmark "
        f"problems{f' ({by_rule})' if by_rule else ''}, {counts['duplicate']} are duplicates, "
        f"{counts['contradictory']} have contradictory reference answers, {counts['unverifiable']} one that cannot be "
        "judged against"
    )
    if separated.spared:
        context.console.say(
            f"prepare: {separated.spared} training problems share only a template's words with a benchmark problem "
            f"and are kept (prepare.template_share: {template_share:g}; 0 removes them)"
        )
    return kept, removed
