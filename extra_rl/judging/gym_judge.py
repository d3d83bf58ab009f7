"""Judging a response to an item of Reasoning Gym by the library's scorer, within limits.

The answer is the content of the last `<answer>...</answer>` (the library's extraction, "tag"), else the text after the
last "Answer:" or "answer is" ("phrase"), else the last line that is not empty ("last_line"). In a truncated response
only a closed tag counts. The rule of a judgement is "<where the answer was found>/<score>", for example "tag/0.5".

Scorers parse answers with sympy, loop over numbers in them, and may evaluate them as Python. So `judge_gym` calls them
only in the killable processes of `mathjudge.bounded`, and an answer that is evaluated must be arithmetic or a list
(`gym_library.EVALUATION`, docs/tasks.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from extra_rl.judging.gym_library import EVALUATION, disarm, make, require
from extra_rl.judging.gym_record import from_json, to_json
from extra_rl.judging.pool import judge_in_pool
from extra_rl.verdict import SCORE, Judgement, Scored, Verdict

if TYPE_CHECKING:
    from extra_rl.config.sections import TaskConfig, VerifierConfig

PHRASE = re.compile(r"\b(?:answer[ \t*_]*:[*_]*|(answer[ \t]+is)\b[ \t]*:?)", re.IGNORECASE)

NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
ARITHMETIC = re.compile(rf"(?:{NUMBER}(?![.\d])|[A-Za-z][A-Za-z0-9]*|[-+*/^(),!\s])*")
WORD = re.compile(r"[A-Za-z][A-Za-z0-9]*")
CIRCULAR = ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh")
FUNCTIONS = frozenset([*CIRCULAR, *(f"a{name}" for name in CIRCULAR), "exp", "log", "ln", "sqrt", "abs", "Abs", "pi"])
LONGEST_EXPRESSION = 2000


@dataclass(frozen=True)
class GymItem:
    """One response to judge. gold: the oracle answer. record: JSON of the item (`gym_make.GymItemMade.record`)."""

    gold: str
    response: str
    truncated: bool
    record: str

    def tail(self, chars: int) -> GymItem:
        """Return the item with only the end of its response, in which only a closed tag counts."""
        return replace(self, response=self.response[-chars:], truncated=True)


@dataclass(frozen=True)
class GymJudge:
    """The judge of a task as a picklable callable for `judge_in_pool`.

    Args:
        right_from: smallest score of a correct answer.
        sets: (dataset, configuration as JSON) of the task's sets, which a worker makes before it judges anything.
    """

    right_from: float
    sets: tuple[tuple[str, str], ...] = ()

    def warm_up(self) -> None:
        """Import the library and make the data sets outside the time limit of an item. ConfigError as `make`."""
        for dataset, config in self.sets:
            scorer_of(dataset, config)

    def __call__(self, item: GymItem) -> Judgement:
        """Return the judgement. Errors of the scorer are raised, and the pool turns them into the verdict `error`."""
        where, answer = extracted(item.response, item.truncated)
        if answer is None:
            return Judgement(Verdict.TRUNCATED if item.truncated else Verdict.NO_ANSWER, None, where)
        record = from_json(item.record)
        if EVALUATION.get(record["dataset"]) == "expression" and not is_arithmetic(answer, item.gold):
            return Scored(Verdict.WRONG, answer, f"{where}/no_expression", {SCORE: 0.0})
        score = float(scorer_of(record["dataset"], to_json(record["config"]))(answer, record["entry"]))
        verdict = Verdict.RIGHT if score >= self.right_from else Verdict.WRONG
        return Scored(verdict, answer, f"{where}/{score:.4g}", {SCORE: score})


@lru_cache(maxsize=64)
def scorer_of(dataset: str, config: str) -> Callable[[str, dict[str, Any]], float]:
    """Return `score_answer` of a data set after `disarm`. config: JSON (`gym_record`)."""
    made = make(dataset, dataset, from_json(config), size=1, seed=0)
    disarm(dataset, made)
    score: Callable[[str, dict[str, Any]], float] = made.score_answer
    return score


def extracted(response: str, truncated: bool) -> tuple[str, str | None]:
    """Return where the answer was found ("tag", "phrase", "last_line" or "none"), and the answer, None if empty."""
    from reasoning_gym.utils import extract_answer

    tagged: str | None = extract_answer(response)
    if tagged is not None:
        return "tag", tagged.strip() or None
    if truncated:
        return "none", None
    if found := list(PHRASE.finditer(response)):
        text = response[found[-1].end() :].strip()
        return "phrase", (text.removesuffix(".") if found[-1][1] else text) or None
    lines = [line.strip() for line in response.splitlines() if line.strip()]
    return ("last_line", lines[-1]) if lines else ("none", None)


def is_arithmetic(answer: str, gold: str) -> bool:
    """Return whether a text is arithmetic, so that evaluating it can call nothing but elementary functions.

    Allowed are numbers, operators, brackets, one-letter names, elementary functions and names in the reference answer.
    There is no dot except decimal points, no quote and no underscore, so Python can reach no attribute or string.
    """
    if len(answer) > LONGEST_EXPRESSION or not answer.isascii() or not ARITHMETIC.fullmatch(answer):
        return False
    allowed = FUNCTIONS | set(WORD.findall(gold))
    return all(len(word) == 1 or word in allowed for word in WORD.findall(re.sub(NUMBER, " ", answer)))


def judge_gym(
    items: Sequence[GymItem],
    task: TaskConfig,
    verifier: VerifierConfig,
    progress: Callable[[int], object] | None = None,
) -> list[Judgement]:
    """Return the judgement of each item, in order. Raises ConfigError if the package is missing.

    Args:
        items: responses with the records of their items.
        task: the sets, and the smallest score of a correct answer.
        verifier: limits.
        progress: as in `judge_in_pool`.
    """
    require()
    sets = sorted({(chosen.dataset, to_json(chosen.config)) for chosen in task.sets.values()})
    judge = GymJudge(task.right_from, tuple(sets))
    return judge_in_pool(judge, items, verifier, progress=progress, preload="reasoning_gym")
