r"""Judging a response to a mathematics problem against the gold answer.

`judge` = find the answer (`extract`) -> one spelling (`normalise`) -> what it is (`reading`) -> is it the gold
(`equal`). The rule of a judgement is "<where the answer was found>/<what decided>", for example "box/number" or
"phrase/different". Time and memory are bounded by the process that calls it: `mathjudge.bounded`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from extra_rl.verdict import Judgement, Verdict
from mathjudge.answer import Items, Node, Quantity, Region
from mathjudge.bounded import Item
from mathjudge.braces import balanced
from mathjudge.equal import same
from mathjudge.extract import Extraction, extract
from mathjudge.golds import gold_problem, gold_text
from mathjudge.normalise import clean, squash
from mathjudge.policy import Policy
from mathjudge.reading import read

__all__ = ["MathJudge", "Policy", "gold_problem", "judge", "same_text"]

DEFAULT = Policy()


@dataclass(frozen=True)
class MathJudge:
    """`judge` with its policy, as a picklable callable for `judge_all`."""

    policy: Policy = DEFAULT

    def __call__(self, item: Item) -> Judgement:
        policy = _tolerant(self.policy, item.relative_tolerance, item.absolute_tolerance)
        return judge(item.gold, item.response, policy, truncated=item.truncated)


@lru_cache(maxsize=64)
def _tolerant(policy: Policy, relative: float, absolute: float) -> Policy:
    """The policy with the larger of its own tolerances and a row's. One that is not finite is refused."""
    wider = {
        "relative_tolerance": max(relative, policy.relative_tolerance),
        "absolute_tolerance": max(absolute, policy.absolute_tolerance),
    }
    return Policy(**(policy.model_dump() | wider))


def judge(gold: str, response: str, policy: Policy = DEFAULT, *, truncated: bool = False) -> Judgement:
    """The verdict on one response.

    gold: the gold answer, bare, in a box, or at the end of a worked solution. response: the model's text, or a bare
    answer. truncated: it was cut off at the token limit, so that only a box counts.
    """
    expected = gold_text(gold)
    if not expected:
        return Judgement(Verdict.GOLD_UNPARSEABLE, None, "gold/empty")
    found = extract(response, frozenset(policy.fallbacks), truncated)
    if found.text is None or not found.text.strip():
        cut = truncated or found.rule == "unclosed_box"
        return Judgement(Verdict.TRUNCATED if cut else Verdict.NO_ANSWER, None, found.rule)
    answer = _answer_of(found, _is_list(expected), policy)
    if answer is None:
        return Judgement(Verdict.WRONG, found.text, f"{found.rule}/several_answers")
    if rule := same_text(expected, answer, policy):
        return Judgement(Verdict.RIGHT, answer, f"{found.rule}/{rule}")
    if problem := gold_problem(gold):
        return Judgement(Verdict.GOLD_UNPARSEABLE, answer, f"gold/{problem}")
    return Judgement(Verdict.WRONG, answer, f"{found.rule}/different")


def _answer_of(found: Extraction, list_expected: bool, policy: Policy) -> str | None:
    """The one answer in neighbouring boxes: all of them where a list is expected, else the last.

    None where one answer is expected and several are given: separated by a comma or "and", or joined by "or".
    """
    if list_expected:
        return found.text if policy.join_boxes else found.answers[-1]
    return None if found.joined_by_or or found.separated else found.answers[-1]


def _is_list(text: str) -> bool:
    node = _node(text)
    return isinstance(node, Region) or (isinstance(node, Items) and not node.ratio)


def same_text(gold: str, answer: str, policy: Policy = DEFAULT) -> str | None:
    """The rule by which two answer texts are equal, or None. Long or unbalanced ones are compared as text only."""
    if max(len(gold), len(answer)) > policy.max_answer_chars:
        return "text" if gold.strip() == answer.strip() else None
    gold, answer = (_decimal_comma(text) if policy.decimal_comma else text for text in (gold, answer))
    clean_gold, clean_answer = _clean(gold), _clean(answer)
    if not clean_answer or not clean_gold:
        return None
    if squash(clean_gold) == squash(clean_answer):
        return "text"
    if not (balanced(clean_gold) and balanced(clean_answer)):
        return None
    try:
        left, right = _node(gold), _node(answer)
        return same(left, right, policy) or _same_as_lists(left, right, policy)
    except RecursionError:  # the text is nested too deep to be an answer
        return None


def _same_as_lists(gold: Node, answer: Node, policy: Policy) -> str | None:
    """100,200 is a number with a separator or a list; beside an unmistakable list it is the list."""
    if isinstance(gold, Quantity) and "," in gold.text and isinstance(answer, Items):
        return same(read(gold.text.replace(",", ", ")), answer, policy)
    if isinstance(answer, Quantity) and "," in answer.text and isinstance(gold, Items):
        return same(gold, read(answer.text.replace(",", ", ")), policy)
    return None


def _decimal_comma(text: str) -> str:
    """2,74 as 2.74; groups of three digits stay thousands."""
    return re.sub(r"(?<=\d),(?=\d{1,2}(?!\d)|\d{4,}(?!\d))", ".", text)


@lru_cache(maxsize=512)
def _clean(text: str) -> str:
    return clean(text)


@lru_cache(maxsize=512)
def _node(text: str) -> Node:
    return read(_clean(text))
