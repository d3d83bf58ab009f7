"""Second judges for an audit: simpler or different verifiers for the same responses.

Where one disagrees with `mathjudge.judge`, either may be incorrect, so a person should read the row. Both judges here
use the extraction of the first judge, so they can disagree only on equality. Source: our decision.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Sequence

from extra_rl.config.sections import TaskConfig, VerifierConfig
from extra_rl.judging.command import Case, judge_by_command
from extra_rl.judging.pool import judge_in_pool
from extra_rl.verdict import Judgement, Verdict
from mathjudge import Item
from mathjudge.extract import extract
from mathjudge.normalise import clean, squash
from mathjudge.policy import FALLBACKS
from mathjudge.reference import reference_text


def string(item: Item) -> Judgement:
    """Return RIGHT if reference answer and answer are the same text after normalisation (`mathjudge.normalise`)."""
    answer = extract(item.response, frozenset(FALLBACKS), item.truncated).text
    if not answer:
        return _no_answer(item)
    equal = squash(clean(answer)) == squash(clean(reference_text(item.gold)))
    return Judgement(Verdict.RIGHT if equal else Verdict.WRONG, answer, "string")


def sympy_only(item: Item) -> Judgement:
    r"""Judge by math-verify 0.9.0 with default settings, on the extracted answers in `\boxed{}`, without our rules.

    Only its LaTeX extraction is used: the one for plain expressions passes digits and operators of the text to
    sympy.parse_expr, which evaluates them as Python.
    """
    from math_verify import LatexExtractionConfig, parse, verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its time limit is off; the pool has one
    answer = extract(item.response, frozenset(FALLBACKS), item.truncated).text
    if not answer:
        return _no_answer(item)
    gold, given = (
        parse(rf"\boxed{{{text}}}", extraction_config=[LatexExtractionConfig()], parsing_timeout=None)
        for text in (reference_text(item.gold), answer)
    )
    if not gold:
        return Judgement(Verdict.GOLD_UNPARSEABLE, answer, "sympy_only")
    equal = verify(gold, given, timeout_seconds=None)
    return Judgement(Verdict.RIGHT if equal else Verdict.WRONG, answer, "sympy_only")


def _no_answer(item: Item) -> Judgement:
    return Judgement(Verdict.TRUNCATED if item.truncated else Verdict.NO_ANSWER, None, "none")


JUDGES = {"string": string, "sympy_only": sympy_only}
"""Built-in second judges by name."""

NONE = "none"
"""The name for no second judge."""


def second_judgements(
    judge: str,
    cases: Sequence[Case],
    task: TaskConfig,
    verifier: VerifierConfig,
    *,
    timeout_s: float,
    progress: Callable[[int], object] | None = None,
) -> list[Judgement]:
    """Return the second judge's judgement of each case, in order.

    Args:
        judge: a key of `JUDGES`, run in killable workers; otherwise a command line (`judge_by_command`).
        cases: responses with what the first judge extracted.
        task: decides which text a built-in judge compares.
        verifier: limits of the workers.
        timeout_s: seconds for all cases together; of a command only.
        progress: called with the number of newly judged cases.

    Raises InputError if a command fails.
    """
    if judge not in JUDGES:
        return judge_by_command(judge, cases, timeout_s, progress)
    return judge_in_pool(JUDGES[judge], [_item(case, task) for case in cases], verifier, progress=progress)


def _item(case: Case, task: TaskConfig) -> Item:
    """Return the item of a case. A response to a generated task has no box, so the extracted answer is put into one."""
    if task.name == "math":
        return Item(case.gold, case.response, truncated=case.truncated)
    return Item(case.gold, rf"\boxed{{{case.extracted}}}" if case.extracted is not None else "", case.truncated)


def judge_mistake(judge: str) -> str | None:
    """Return why a text cannot be a second judge's name or command line, or None."""
    try:
        words = shlex.split(judge)
    except ValueError as error:
        return f"not a command line ({error})"
    return None if words else f"name a judge: {NONE}, {', '.join(JUDGES)}, or a command line"
