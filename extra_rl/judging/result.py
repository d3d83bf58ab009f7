"""What a user's judge may return: a verdict, a number, named numbers, or a judgement; and its check.

A number is correct from `correct_at` on. Named numbers include `correct`, which decides in the same way.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from extra_rl.verdict import BUILT_IN, SCORE, Judgement, Scored, Verdict

NAME = re.compile(r"[A-Za-z_]\w{0,63}")
LONGEST_RULE = 200
MOST_NUMBERS = 64
VERDICTS = tuple(verdict.value for verdict in Verdict)


def judgement_of(returned: Any, correct_at: float, rule: str) -> Judgement:
    """Return the judgement that a returned value stands for; one with the verdict `error` for an unusable value.

    - a verdict, as text or `Verdict`;
    - a number, or True and False: RIGHT from `correct_at` on; the reward is the number;
    - a mapping of names to numbers, one of them `correct`: RIGHT if that is at least `correct_at`; the reward is their
      sum, unless `verify.weights` weighs them;
    - a `mathjudge.Judgement`.

    Args:
        returned: by the user's function, task or command.
        correct_at: smallest number of a correct response.
        rule: of the judgement, unless it is an error.
    """
    if isinstance(returned, Judgement):
        return returned
    if isinstance(returned, str):
        if returned not in VERDICTS:
            return failed(f"returned the text {shown(returned)}; verdicts are {', '.join(VERDICTS)}")
        return Judgement(Verdict(returned), None, rule)
    if isinstance(returned, Mapping):
        return _of_mapping(returned, correct_at, rule)
    number = number_of(returned)
    if number is None:
        return failed(f"returned {_kind(returned)} instead of a verdict, a finite number or named numbers")
    verdict = Verdict.RIGHT if number >= correct_at else Verdict.WRONG
    return Scored(verdict, None, rule, {SCORE: number}, number)


def _of_mapping(returned: Mapping[Any, Any], correct_at: float, rule: str) -> Judgement:
    numbers: dict[str, float] = {}
    if len(returned) > MOST_NUMBERS:
        return failed(f"returned {len(returned)} numbers; at most {MOST_NUMBERS} are kept")
    for name, value in returned.items():
        number = number_of(value)
        if not isinstance(name, str) or not NAME.fullmatch(name):
            return failed(f"returned a number with the name {shown(name)}; use letters, digits and _")
        if name in BUILT_IN and name != "correct":
            return failed(f"returned a number {name}, which is built in; give it another name")
        if number is None:
            return failed(f"returned {_kind(value)} as {name} instead of a finite number")
        numbers[name] = number
    if "correct" not in numbers:
        return failed(f"returned {', '.join(numbers) or 'no number'} without `correct`, which decides what is correct")
    verdict = Verdict.RIGHT if numbers["correct"] >= correct_at else Verdict.WRONG
    return Scored(verdict, None, rule, numbers, sum(numbers.values()))


def number_of(value: Any) -> float | None:
    """Return a finite number or truth value as float, also one of numpy or torch; None for anything else."""
    if not isinstance(value, bool | int | float):
        item = getattr(value, "item", None)
        value = item() if callable(item) and getattr(value, "ndim", 0) == 0 else value
    if not isinstance(value, bool | int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def failed(why: str) -> Judgement:
    """Return the judgement `error` with the reason as its rule, in one line."""
    return Judgement(Verdict.ERROR, None, " ".join(storable(why).split())[:LONGEST_RULE])


def encoded(judgement: Judgement) -> bytes:
    """Return a judgement as JSON."""
    return json.dumps({**asdict(judgement), "verdict": judgement.verdict.value}, allow_nan=False).encode()


def decoded(text: bytes) -> Judgement:
    """Return the judgement of `encoded`; `error` for any other bytes."""
    try:
        found = json.loads(text)
        verdict, extracted, rule = Verdict(found["verdict"]), found["extracted"], found["rule"]
        if not isinstance(rule, str) or not isinstance(extracted, str | None):
            raise TypeError
        rule = storable(rule)[:LONGEST_RULE]
        extracted = None if extracted is None else storable(extracted)
        if "numbers" not in found:
            return Judgement(verdict, extracted, rule)
        numbers = {str(name): float(value) for name, value in found["numbers"].items()}
        return Scored(verdict, extracted, rule, numbers, None if found["total"] is None else float(found["total"]))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return failed("its process wrote something that is no judgement")


def storable(text: str) -> str:
    """Replace halves of surrogate pairs, which JSON can encode and a table cannot store."""
    return text.encode(errors="replace").decode()


def shown(value: object) -> str:
    """Return a value in ASCII, cut to a message's length."""
    text = ascii(value)
    return text if len(text) <= 100 else f"{text[:100]}..."


def _kind(value: object) -> str:
    if isinstance(value, float):
        return str(value)
    return "None" if value is None else f"{type(value).__name__} {shown(value)}"
