r"""Judging a response to a mathematics problem against the gold answer.

`judge` = find the answer (`extract`) -> one spelling (`normalise`) -> what it is (`answer`) -> is it the gold
(`equal`). The rule of a judgement is "<where the answer was found>/<what decided>", for example "box/number" or
"phrase/different". Time and memory are bounded by the process that calls it: `extra_rl.rewards.bounded`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from extra_rl.rewards.bounded import Item
from extra_rl.rewards.extract import Extraction, extract
from extra_rl.rewards.policy import FALLBACKS, Policy
from extra_rl.rewards.verdict import Judgement, Verdict

if TYPE_CHECKING:
    from extra_rl.rewards.answer import Node

__all__ = ["MathJudge", "Policy", "gold_problem", "judge"]

DEFAULT = Policy()


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
        return _without_answer(found, truncated)
    rule = _compare(expected, found, policy)
    if rule is None and (problem := gold_problem(gold)):
        return Judgement(Verdict.GOLD_UNPARSEABLE, found.text, f"gold/{problem}")
    verdict = Verdict.RIGHT if rule else Verdict.WRONG
    return Judgement(verdict, found.text, f"{found.rule}/{rule or 'different'}")


@dataclass(frozen=True)
class MathJudge:
    """`judge` with its policy, as a picklable callable for `judge_all`."""

    policy: Policy = DEFAULT

    def __call__(self, item: Item) -> Judgement:
        return judge(item.gold, item.response, self.policy, truncated=item.truncated)


def _without_answer(found: Extraction, truncated: bool) -> Judgement:
    cut = truncated or found.rule == "unclosed_box"
    return Judgement(Verdict.TRUNCATED if cut else Verdict.NO_ANSWER, None, found.rule)


def _compare(expected: str, found: Extraction, policy: Policy) -> str | None:
    """The rule by which the extraction equals the gold: as one list over its boxes, or by its last box alone."""
    text = found.text or ""
    gold_items = _count(expected)
    if len(found.answers) == 1:
        return None if found.joined_by_or and gold_items < 2 else same_text(expected, text, policy)
    if policy.join_boxes and gold_items > 1 and (rule := same_text(expected, text, policy)):
        return rule
    return None if found.separated else same_text(expected, found.answers[-1], policy)


def _count(text: str) -> int:
    from extra_rl.rewards.answer import Items, Region

    node = _node(text)
    return (
        len(node.items)
        if isinstance(node, Items) and not node.ratio
        else len(node.pieces)
        if isinstance(node, Region)
        else 1
    )


def same_text(gold: str, answer: str, policy: Policy = DEFAULT) -> str | None:
    """The rule by which two answer texts are equal, or None. Long ones are only compared as text."""
    from extra_rl.rewards.equal import same
    from extra_rl.rewards.normalise import squash

    if len(answer) > policy.max_answer_chars or len(gold) > policy.max_answer_chars:
        return "text" if gold.strip() == answer.strip() else None
    gold, answer = (_decimal_comma(text) if policy.decimal_comma else text for text in (gold, answer))
    clean_gold, clean_answer = _clean(gold), _clean(answer)
    if not clean_answer or not clean_gold:
        return None
    if squash(clean_gold) == squash(clean_answer):
        return "text"
    rule = same(_node(gold), _node(answer), policy)
    return rule or _as_lists(clean_gold, clean_answer, policy)


def _as_lists(gold: str, answer: str, policy: Policy) -> str | None:
    """100,200 is a number with a separator or a list; beside an unmistakable list it is the list."""
    from extra_rl.rewards.answer import Items, Quantity, read
    from extra_rl.rewards.equal import same

    left, right = read(gold), read(answer)
    for number, other in ((left, right), (right, left)):
        if isinstance(number, Quantity) and "," in number.text and isinstance(other, Items):
            spaced = read(number.text.replace(",", ", "))
            return same(spaced, other, policy) if number is left else same(other, spaced, policy)
    return None


def _decimal_comma(text: str) -> str:
    import re

    return re.sub(r"(?<=\d),(?=\d{1,2}(?!\d)|\d{4,}(?!\d))", ".", text)


@lru_cache(maxsize=512)
def _clean(text: str) -> str:
    from extra_rl.rewards.normalise import clean

    return clean(text)


@lru_cache(maxsize=512)
def _node(text: str) -> Node:
    from extra_rl.rewards.answer import read

    return read(_clean(text))


@lru_cache(maxsize=512)
def gold_text(gold: str) -> str:
    """The answer in a gold: its boxes, or its closing phrase if it is a worked solution, else all of it."""
    found = extract(gold, frozenset({"minerva", "hashes"}))
    if found.rule in ("box", "minerva", "hashes") and found.text:
        return found.text
    if len(gold) > 400 and (solved := extract(gold, frozenset(FALLBACKS)).text):
        return solved
    return gold.strip()


@lru_cache(maxsize=512)
def gold_problem(gold: str) -> str | None:
    """Why a gold cannot be judged against ("empty", "unbalanced", "unparsed"), or None where it can.

    A gold passes if every formula in it is one that the parser knows; words are compared as words.
    """
    from extra_rl.rewards.braces import balanced
    from extra_rl.rewards.equal import unparsed

    text = _clean(gold_text(gold))
    if not text:
        return "empty"
    if not balanced(text):
        return "unbalanced"
    return "unparsed" if unparsed(_node(gold_text(gold))) else None
