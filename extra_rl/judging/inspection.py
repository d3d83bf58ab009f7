"""A user's judge tried before the first job, in a child process: does it import, can it be called, what does it return?

`python -m extra_rl.judging.inspection QUESTION FD` is the child. The trial response is made up, so an exception of the
function is no fault; a value of a wrong kind, or one without a weighted number, is.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from extra_rl.errors import ConfigError
from extra_rl.judging.function import FunctionItem, FunctionJudge, callable_of
from extra_rl.user_code import find, inspected
from extra_rl.verdict import BUILT_IN, Judgement, Scored, Verdict

TRIAL = FunctionItem("What is 1 + 1?", "2", "1 + 1 = 2", False, (16, 488, 220, 16, 284, 220, 17), None)
TRIAL_S = 10.0


def faults_of_function(
    reference: str, weights: Sequence[str], *, correct_at: float, memory_mb: int, task: bool = False
) -> Iterator[str]:
    """Yield why a function, or the judge of a task, cannot be used with these weights; nothing where it can.

    Args:
        reference: `module:function`, or `module:Class`.
        weights: names of the weighted numbers (verify.weights).
        correct_at: smallest number of a correct response.
        memory_mb: address space of the child, as of a judging process.
        task: as in `FunctionJudge`.
    """
    key = "task.name" if task else "task.judge"
    try:
        find(reference)
        question = {"reference": reference, "task": task, "correct_at": correct_at, "memory_mb": memory_mb}
        found = inspected("extra_rl.judging.inspection", question)
    except ConfigError as error:
        text = str(error)
        yield f"{key}: {text if text.startswith(reference) else f'{reference}: {text}'}"
        return
    if fault := found.get("fault"):
        yield f"{key}: {fault}"
        return
    numbers = found["numbers"]
    if numbers is None:  # the trial raised an exception, or its verdict has no numbers
        return
    for name in weights:
        if name not in numbers and name not in BUILT_IN:
            yield (
                f"verify.weights.{name}: {reference} returns no number {name}; it returns {', '.join(numbers)}, and "
                f"there are {', '.join(BUILT_IN)}"
            )


def tried(reference: str, *, task: bool, correct_at: float) -> dict[str, Any]:
    """Import a judge in this process and judge one response with it: `fault` (text or None), `numbers` (names or None).

    Raises ConfigError where it cannot be called, and whatever its import raises.
    """
    callable_of(reference, str(Path.cwd()), task)
    judgement = FunctionJudge(reference, str(Path.cwd()), TRIAL_S, correct_at, task)(TRIAL)
    if judgement.verdict is Verdict.ERROR and judgement.rule.startswith("returned"):
        return {"fault": f"{reference} {judgement.rule}", "numbers": None}
    return {"fault": None, "numbers": _names(judgement)}


def _names(judgement: Judgement) -> list[str] | None:
    if isinstance(judgement, Scored):
        return sorted(judgement.numbers)
    return [] if judgement.verdict in (Verdict.RIGHT, Verdict.WRONG) else None


def main(words: list[str]) -> None:
    """Answer the question of `faults_of_function`."""
    question = json.loads(words[0])
    limit = question["memory_mb"] * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    reference = question["reference"]
    try:
        found = tried(reference, task=question["task"], correct_at=question["correct_at"])
    except ConfigError as error:
        found = {"fault": str(error), "numbers": None}
    except MemoryError:
        found = {"fault": f"{reference}: its import needs more than verifier.memory_mb ({question['memory_mb']} MiB)"}
    except BaseException as error:  # a user's code may raise anything, SystemExit included
        found = {"fault": f"{reference} cannot be imported: {type(error).__name__}: {error}", "numbers": None}
    with os.fdopen(int(words[1]), "w") as answer:
        json.dump(found, answer)


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    main(sys.argv[1:])
