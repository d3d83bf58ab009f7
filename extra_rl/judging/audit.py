"""Second judges for an audit: what simpler or other verifiers say of the same responses.

A row on which they disagree with `mathjudge.judge` is worth a look: either judge may be wrong. Both use the extraction
of the first judge, so that they disagree on equality alone. Source: our decision.
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
    """Right where gold and answer are the same text, once spelled alike (`normalise`)."""
    answer = extract(item.response, frozenset(FALLBACKS), item.truncated).text
    if not answer:
        return _no_answer(item)
    equal = squash(clean(answer)) == squash(clean(reference_text(item.gold)))
    return Judgement(Verdict.RIGHT if equal else Verdict.WRONG, answer, "string")


def sympy_only(item: Item) -> Judgement:
    r"""math-verify 0.9.0 as it comes, on the extracted answers in `\boxed{}`, without any rule of ours.

    Only its LaTeX extraction is used. The other one, for plain expressions, hands digits and operators of the text to
    sympy.parse_expr, which evaluates them as Python.
    """
    from math_verify import LatexExtractionConfig, parse, verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its own time limit is off: ours is on
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


NONE = "none"


def second_judgements(
    judge: str,
    cases: Sequence[Case],
    task: TaskConfig,
    verifier: VerifierConfig,
    *,
    timeout_s: float,
    progress: Callable[[int], object] | None = None,
) -> list[Judgement]:
    """What a second judge says of each case, in order.

    judge: a key of `JUDGES`, run in killable workers with the verifier's limits; else a command line
    (`command_judge`), with `timeout_s` seconds for all cases. Raises InputError where a command fails.
    """
    if judge not in JUDGES:
        return judge_by_command(judge, cases, timeout_s, progress)
    return judge_in_pool(JUDGES[judge], [_item(case, task) for case in cases], verifier, progress=progress)


def _item(case: Case, task: TaskConfig) -> Item:
    """Generated tasks box nothing: what their own verifier read as the answer is compared, however it was reached."""
    if task.name == "math":
        return Item(case.gold, case.response, truncated=case.truncated)
    return Item(case.gold, rf"\boxed{{{case.extracted}}}" if case.extracted is not None else "", case.truncated)


def judge_mistake(judge: str) -> str | None:
    """What is wrong with the name or command line of a second judge, None where nothing is."""
    try:
        words = shlex.split(judge)
    except ValueError as error:
        return f"not a command line ({error})"
    return None if words else f"name a judge: {NONE}, {', '.join(JUDGES)}, or a command line"
