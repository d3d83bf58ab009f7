"""Second judges for an audit: what simpler or other verifiers say of the same responses.

A row on which they disagree with `math.judge` is worth a look: either judge may be wrong. Both use the extraction of
the first judge, so that they disagree on equality alone.
"""

from __future__ import annotations

from extra_rl.rewards.bounded import Item
from extra_rl.rewards.extract import extract
from extra_rl.rewards.golds import gold_text
from extra_rl.rewards.normalise import clean, squash
from extra_rl.rewards.policy import FALLBACKS
from extra_rl.rewards.verdict import Judgement, Verdict


def string(item: Item) -> Judgement:
    """Right where gold and answer are the same text, once spelled alike (`normalise`)."""
    answer = extract(item.response, frozenset(FALLBACKS), item.truncated).text
    if not answer:
        return _no_answer(item)
    equal = squash(clean(answer)) == squash(clean(gold_text(item.gold)))
    return Judgement(Verdict.RIGHT if equal else Verdict.WRONG, answer, "string")


def sympy_only(item: Item) -> Judgement:
    r"""math-verify 0.9.0 as it comes, on the extracted answers in `\boxed{}`, without any rule of ours.

    Only its LaTeX extraction is used. The other one, for plain expressions, hands digits and operators of the text to
    sympy.parse_expr, which evaluates them as Python.
    """
    from math_verify import LatexExtractionConfig, parse, verify

    answer = extract(item.response, frozenset(FALLBACKS), item.truncated).text
    if not answer:
        return _no_answer(item)
    gold, given = (
        parse(rf"\boxed{{{text}}}", extraction_config=[LatexExtractionConfig()], parsing_timeout=None)
        for text in (gold_text(item.gold), answer)
    )
    if not gold:
        return Judgement(Verdict.GOLD_UNPARSEABLE, answer, "sympy_only")
    equal = verify(gold, given, timeout_seconds=None)
    return Judgement(Verdict.RIGHT if equal else Verdict.WRONG, answer, "sympy_only")


def _no_answer(item: Item) -> Judgement:
    return Judgement(Verdict.TRUNCATED if item.truncated else Verdict.NO_ANSWER, None, "none")


JUDGES = {"string": string, "sympy_only": sympy_only}
