r"""Judge a response to a mathematics problem against the reference answer.

`judge` finds the answer (`extract`) and compares it with the reference answer (`compare`). The rule of a judgement is
"<where the answer was found>/<what decided>", for example "box/number" or "phrase/different". Time and memory are
bounded by the process that calls it: `mathjudge.bounded`. The modules that read and compare are imported on first use.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from mathjudge.policy import DEFAULT, Policy
from mathjudge.verdict import Judgement, Verdict

if TYPE_CHECKING:
    from mathjudge.bounded import Item
    from mathjudge.extract import Extraction


@dataclass(frozen=True)
class MathJudge:
    """`judge` with its policy, as a picklable callable for `judge_all`."""

    policy: Policy = DEFAULT

    def __call__(self, item: Item) -> Judgement:
        policy = _tolerant(self.policy, item.relative_tolerance, item.absolute_tolerance)
        return judge(item.gold, item.response, policy, truncated=item.truncated)


@lru_cache(maxsize=64)
def _tolerant(policy: Policy, relative: float, absolute: float) -> Policy:
    """Return the policy with the larger of its own tolerances and a row's. ValueError if one is not finite."""
    wider = {
        "relative_tolerance": max(relative, policy.relative_tolerance),
        "absolute_tolerance": max(absolute, policy.absolute_tolerance),
    }
    return Policy(**(policy.model_dump() | wider))


def judge(gold: str, response: str, policy: Policy = DEFAULT, *, truncated: bool = False) -> Judgement:
    """Return the verdict on one response, with the answer that was found and the rule that decided.

    It runs in this process without limits on time and memory: `judge_all` is for text that is not trusted.

    Args:
        gold: the reference answer, bare, in a box, or at the end of a worked solution.
        response: the model's text, or a bare answer.
        policy: how a response is read and when two answers are the same.
        truncated: the response was cut off at the token limit, so only a box counts.
    """
    from mathjudge.compare import is_list, same_text
    from mathjudge.extract import extract
    from mathjudge.reference import reference_problem, reference_text

    expected = reference_text(gold)
    if not expected:
        return Judgement(Verdict.GOLD_UNPARSEABLE, None, "gold/empty")
    found = extract(response, frozenset(policy.fallbacks), truncated)
    if found.text is None or not found.text.strip():
        cut = truncated or found.rule == "unclosed_box"
        return Judgement(Verdict.TRUNCATED if cut else Verdict.NO_ANSWER, None, found.rule)
    answer = _answer_of(found, is_list(expected), policy)
    if answer is None:
        return Judgement(Verdict.WRONG, found.text, f"{found.rule}/several_answers")
    if rule := same_text(expected, answer, policy):
        return Judgement(Verdict.RIGHT, answer, f"{found.rule}/{rule}")
    if problem := reference_problem(gold):
        return Judgement(Verdict.GOLD_UNPARSEABLE, answer, f"gold/{problem}")
    return Judgement(Verdict.WRONG, answer, f"{found.rule}/different")


def _answer_of(found: Extraction, list_expected: bool, policy: Policy) -> str | None:
    """Return the answer that is compared: all neighbouring boxes if a list is expected, else the last one.

    None if one answer is expected and several are given: separated by a comma or "and", or joined by "or".
    """
    if list_expected:
        return found.list_text if policy.join_boxes else found.answers[-1]
    return None if found.joined_by_or or found.separated else found.answers[-1]
