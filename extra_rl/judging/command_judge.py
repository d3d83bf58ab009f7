"""A user's program as the judge of a run: the protocol of `command`, with scores, and a verdict for every response.

Each line of its standard input has two further keys, `tokens` (of the response) and `metadata` (of the problem). An
answer may contain `verdict`, or `score` (a number), or `numbers` (names and numbers, one of them `correct`) instead.

Unlike a second judge, it cannot stop a run by failing on one response. An answer that cannot be used is the verdict
`error` of its response. Where the program ends early, the first response without an answer gets the verdict `error`,
and the program is started again for the others, at most MOST_STARTS times. Responses that are unanswered when the time
is over get the verdict `timeout`. Lines that are no answer are ignored. Source: our decision.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from extra_rl.errors import InputError
from extra_rl.judging.command import BYTES_PER_ANSWER, CHUNK, TimeLimitError, run_command
from extra_rl.judging.function import FunctionItem
from extra_rl.judging.result import failed, judgement_of, shown, storable
from extra_rl.verdict import Judgement, Scored, Verdict

MOST_STARTS = 10
LEAST_S = 60.0
"""Shortest time limit of a table: a program may need a while to start."""
RULE = "command"


def judge_responses_by_command(
    command: str,
    items: Sequence[FunctionItem],
    *,
    timeout_s: float,
    correct_at: float,
    progress: Callable[[int], object] | None = None,
) -> list[Judgement]:
    """Return the program's judgement of each response, in order. Without responses it is not started.

    Args:
        command: a command line, split by the rules of a shell.
        items: responses.
        timeout_s: wall-clock seconds for all responses together, at least LEAST_S.
        correct_at: smallest score of a correct response.
        progress: called with the number of new lines of output.
    """
    answers: dict[int, Judgement] = {}
    left, fault = list(range(len(items))), ""
    for _ in range(MOST_STARTS):
        if not left:
            break
        written, fault = bytearray(), "left it unanswered"
        try:
            with tempfile.TemporaryFile() as questions:
                questions.writelines(_question(row, items[row]) for row in left)
                questions.seek(0)
                limit = BYTES_PER_ANSWER * len(left) + CHUNK
                run_command(command, questions, max(timeout_s, LEAST_S), limit, written, progress)
            stop = True
        except TimeLimitError:
            answers |= _answers(written, set(left), correct_at)
            return [answers.get(row, Judgement(Verdict.TIMEOUT, None, "time")) for row in range(len(items))]
        except InputError as error:
            stop, fault = False, str(error)
        answers |= _answers(written, set(left), correct_at)
        left = [row for row in left if row not in answers]
        if stop:
            break
        if left:
            answers[left.pop(0)] = failed(fault)
    return [answers.get(row) or failed(fault) for row in range(len(items))]


def _question(row: int, item: FunctionItem) -> bytes:
    given = item.arguments()
    names = ("problem", "response", "truncated", "tokens", "metadata")
    return json.dumps({"id": str(row), "gold": item.gold, **{name: given[name] for name in names}}).encode() + b"\n"


def _answers(written: bytes | bytearray, rows: set[int], correct_at: float) -> dict[int, Judgement]:
    """Return row -> judgement for the answers in the output; of two answers to one response the first counts."""
    found: dict[int, Judgement] = {}
    for line in written.splitlines():
        try:
            answer: Any = json.loads(line)
            row = int(answer["id"])
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
        if row in rows:
            found.setdefault(row, _judgement(answer, correct_at))
    return found


def _judgement(answer: Mapping[str, Any], correct_at: float) -> Judgement:
    given = [name for name in ("verdict", "score", "numbers") if name in answer]
    if len(given) != 1:
        return failed(f"answered with {' and '.join(given) or 'neither'}; one of verdict, score, numbers is needed")
    value = answer[given[0]]
    kind = {"verdict": str, "score": int | float, "numbers": dict}[given[0]]
    if not isinstance(value, kind):
        return failed(f"answered with the {given[0]} {shown(value)}")
    found = judgement_of(value, correct_at, RULE)
    extracted, rule = answer.get("extracted"), answer.get("rule", found.rule)
    if found.verdict is Verdict.ERROR or not isinstance(extracted, str | None) or not isinstance(rule, str):
        return (
            found
            if found.verdict is Verdict.ERROR
            else failed("answered with an `extracted` or `rule` that is not text")
        )
    extracted, rule = None if extracted is None else storable(extracted), storable(rule)
    if isinstance(found, Scored):
        return Scored(found.verdict, extracted, rule, found.numbers, found.total)
    return Judgement(found.verdict, extracted, rule)
