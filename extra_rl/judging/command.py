"""A program of the user's as a judge: JSON lines in, JSON lines out, bounded in time and in what it may write.

The program is started once a table, without a shell. Its standard input holds one line a response,

    {"id": "...", "problem": "...", "gold": "...", "response": "...", "truncated": false}

and for each it writes one line to its standard output, in any order:

    {"id": "...", "verdict": "right"}        optional: "extracted" (text or null) and "rule" (text)

`verdict` is one of `extra_rl.verdict.Verdict`. What it writes is untrusted text: read as JSON, checked, never
evaluated. Whatever goes wrong is one InputError, and no part of its answers is used. Source: our decision.
"""

from __future__ import annotations

import json
import os
import selectors
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from extra_rl.errors import InputError
from extra_rl.verdict import Judgement, Verdict

GUARD = Path(__file__).with_name("command_guard.py")
BYTES_PER_ANSWER = 16_384
CHUNK = 65_536
MESSAGE_BYTES = 2_000  # of standard error, its end, shown when the program fails


@dataclass(frozen=True)
class Case:
    """One judged response, as a second judge sees it.

    extracted: the answer that the first judge read in it. truncated: the response was cut off at the token limit.
    """

    rollout_id: str
    problem: str
    gold: str
    response: str
    truncated: bool
    extracted: str | None


def judge_by_command(
    command: str, cases: Sequence[Case], timeout_s: float, progress: Callable[[int], object] | None = None
) -> list[Judgement]:
    """The program's judgement of each case, in the cases' order. Without a case it is not started.

    command: a command line, split like a shell's words. timeout_s: wall-clock seconds for the whole batch; the program
    and its process group are killed then, and when the caller dies. progress: called with the number of new lines.
    Raises InputError when the program cannot be started, fails, takes too long, writes too much, or answers other than
    with one valid line a case; the message ends in what it wrote to standard error.
    """
    if not cases:
        return []
    limit = BYTES_PER_ANSWER * len(cases) + CHUNK
    with tempfile.TemporaryFile() as questions:
        for case in cases:
            questions.write(_question(case))
        questions.seek(0)
        written = _run(command, questions, timeout_s, limit, progress or (lambda _: None))
    answers = _read(command, written, {case.rollout_id for case in cases})
    return [answers[case.rollout_id] for case in cases]


def _question(case: Case) -> bytes:
    fields = ("problem", "gold", "response", "truncated")
    return json.dumps({"id": case.rollout_id, **{name: getattr(case, name) for name in fields}}).encode() + b"\n"


def _run(command: str, questions: IO[bytes], timeout_s: float, limit: int, progress: Callable[[int], object]) -> bytes:
    """What the program writes to standard output. Its process group is gone when this returns or raises."""
    watched, held = os.pipe()
    try:
        guard = subprocess.Popen(
            [sys.executable, "-I", "-S", str(GUARD), str(watched), *shlex.split(command)],
            stdin=questions,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[watched],
            start_new_session=True,
        )
    except BaseException:
        os.close(held)
        raise
    finally:
        os.close(watched)
    complaints = bytearray()
    try:
        written = _listen(command, guard, time.monotonic() + timeout_s, limit, complaints, progress)
        if written is None:
            raise _failure(command, f"did not finish within {timeout_s:g} s (audit.timeout_s)", complaints)
        if code := guard.wait():
            raise _failure(command, f"ended with exit code {code}", complaints)
    finally:
        os.close(held)  # the guard kills the program's process group and ends
        guard.wait()
        for stream in (guard.stdout, guard.stderr):
            assert stream
            stream.close()
    return written


def _listen(
    command: str,
    guard: subprocess.Popen[bytes],
    deadline: float,
    limit: int,
    complaints: bytearray,
    progress: Callable[[int], object],
) -> bytes | None:
    """Standard output up to its end; None when the time is up. `complaints` gets the end of standard error."""
    assert guard.stdout
    assert guard.stderr
    written = bytearray()
    with selectors.DefaultSelector() as selector:
        for stream in (guard.stdout, guard.stderr):
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            for key, _ in selector.select(left):
                chunk = os.read(key.fd, CHUNK)
                if not chunk:
                    selector.unregister(key.fileobj)
                elif key.fileobj is guard.stderr:
                    complaints += chunk
                    del complaints[:-MESSAGE_BYTES]
                else:
                    written += chunk
                    progress(chunk.count(b"\n"))
                    if len(written) > limit:
                        raise _failure(command, f"wrote more than {limit:,} bytes", complaints)
    return bytes(written)


def _read(command: str, written: bytes, expected: set[str]) -> dict[str, Judgement]:
    """id -> judgement, one for each expected id; InputError for the first line that is no answer to a case."""
    answers: dict[str, Judgement] = {}
    for number, line in enumerate(written.splitlines(), 1):
        if not line.strip():
            continue
        where = f"wrote in line {number}"
        try:
            answer: Any = json.loads(line)
        except (ValueError, RecursionError):
            raise _failure(command, f"{where} no JSON: {_shown(line)}") from None
        if not isinstance(answer, dict):
            raise _failure(command, f"{where} no JSON object: {_shown(line)}")
        name = answer.get("id")
        if not isinstance(name, str) or name not in expected:
            raise _failure(command, f"{where} an id that it was not asked about: {_shown(name)}")
        if name in answers:
            raise _failure(command, f"{where} a second answer to {name}")
        answers[name] = _judgement(command, where, answer)
    if missing := sorted(expected - set(answers)):
        raise _failure(command, f"left {len(missing)} of {len(expected)} responses unanswered, first {missing[0]}")
    return answers


def _judgement(command: str, where: str, answer: dict[str, Any]) -> Judgement:
    verdict, extracted, rule = answer.get("verdict"), answer.get("extracted"), answer.get("rule", "command")
    known = [v.value for v in Verdict]
    if verdict not in known:
        raise _failure(command, f"{where} the verdict {_shown(verdict)}; known: {', '.join(known)}")
    if not isinstance(extracted, str | None) or not isinstance(rule, str):
        raise _failure(command, f"{where} an `extracted` or `rule` that is no text: {_shown(answer)}")
    return Judgement(Verdict(verdict), None if extracted is None else _storable(extracted), _storable(rule))


def _storable(text: str) -> str:
    """JSON can spell half a surrogate pair, which is no text that a table can hold."""
    return text.encode(errors="replace").decode()


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _failure(command: str, what: str, complaints: bytes | bytearray = b"") -> InputError:
    said = complaints.decode(errors="replace").strip()
    return InputError(f"the judge `{command}` {what}." + (f" On standard error it said:\n{said}" if said else ""))
