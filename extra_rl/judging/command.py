"""A user's program as a judge: JSON lines in, JSON lines out, with limits on time and output.

The program is started once per table, without a shell. Its standard input contains one line per response,

    {"id": "...", "problem": "...", "gold": "...", "response": "...", "truncated": false}

and for each it writes one line to its standard output, in any order:

    {"id": "...", "verdict": "right"}        optional: "extracted" (text or null) and "rule" (text)

`verdict` is one of `extra_rl.verdict.Verdict`. The output is untrusted text: it is parsed as JSON, checked, and never
evaluated. Any failure is one InputError, and then none of the answers is used. Source: our decision.
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
from extra_rl.judging.result import storable
from extra_rl.verdict import Judgement, Verdict

GUARD = Path(__file__).with_name("command_guard.py")
BYTES_PER_ANSWER = 16_384
CHUNK = 65_536
MESSAGE_BYTES = 2_000  # the end of standard error, shown if the program fails


class TimeLimitError(InputError):
    """The program did not finish in time."""


@dataclass(frozen=True)
class Case:
    """One response, as a second judge receives it.

    Args:
        gold: the reference answer.
        truncated: whether the response was cut off at the token limit.
        extracted: the answer that the first judge found in the response.
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
    """Return the program's judgement of each case, in order. Without cases the program is not started.

    Args:
        command: a command line, split by the rules of a shell.
        cases: what the program judges.
        timeout_s: wall-clock seconds for all cases. After them, or when the caller dies, the program's process group is
            killed.
        progress: called with the number of new lines of output.

    Raises InputError if the program cannot be started, fails, takes too long, writes too much, or does not answer with
    exactly one valid line per case. The message ends with the program's standard error.
    """
    if not cases:
        return []
    limit = BYTES_PER_ANSWER * len(cases) + CHUNK
    with tempfile.TemporaryFile() as questions:
        for case in cases:
            questions.write(_question(case))
        questions.seek(0)
        written = run_command(command, questions, timeout_s, limit, bytearray(), progress)
    answers = _read(command, written, {case.rollout_id for case in cases})
    return [answers[case.rollout_id] for case in cases]


def _question(case: Case) -> bytes:
    fields = ("problem", "gold", "response", "truncated")
    return json.dumps({"id": case.rollout_id, **{name: getattr(case, name) for name in fields}}).encode() + b"\n"


def run_command(
    command: str,
    questions: IO[bytes],
    timeout_s: float,
    limit: int,
    written: bytearray,
    progress: Callable[[int], object] | None = None,
) -> bytes:
    """Run a program and return its standard output. Its process group no longer exists when this returns or raises.

    Args:
        command: a command line, split by the rules of a shell.
        questions: its standard input.
        timeout_s: wall-clock limit in seconds.
        limit: most bytes that it may write.
        written: receives its standard output, also where this raises.
        progress: called with the number of new lines of output.

    Raises InputError if it cannot be started, fails, takes too long or writes too much.
    """
    # The guard watches one end of the pipe. The other end closes when this process ends, even after kill -9.
    watched, kept_open = os.pipe()
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
        os.close(kept_open)
        raise
    finally:
        os.close(watched)
    stderr_tail = bytearray()
    try:
        if not _listen(command, guard, time.monotonic() + timeout_s, limit, stderr_tail, written, progress):
            raise TimeLimitError(
                str(_failure(command, f"did not finish within {timeout_s:g} s (audit.timeout_s)", stderr_tail))
            )
        if code := guard.wait():
            raise _failure(command, f"ended with exit code {code}", stderr_tail)
    finally:
        os.close(kept_open)  # the guard kills the program's process group and ends
        guard.wait()
        for stream in (guard.stdout, guard.stderr):
            assert stream
            stream.close()
    return bytes(written)


def _listen(
    command: str,
    guard: subprocess.Popen[bytes],
    deadline: float,
    limit: int,
    stderr_tail: bytearray,
    written: bytearray,
    progress: Callable[[int], object] | None,
) -> bool:
    """Read standard output to its end into `written`, and the end of standard error; False after the deadline."""
    assert guard.stdout
    assert guard.stderr
    with selectors.DefaultSelector() as selector:
        for stream in (guard.stdout, guard.stderr):
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            for key, _ in selector.select(left):
                chunk = os.read(key.fd, CHUNK)
                if not chunk:
                    selector.unregister(key.fileobj)
                elif key.fileobj is guard.stderr:
                    stderr_tail += chunk
                    del stderr_tail[:-MESSAGE_BYTES]
                else:
                    written += chunk
                    if progress:
                        progress(chunk.count(b"\n"))
                    if len(written) > limit:
                        raise _failure(command, f"wrote more than {limit:,} bytes", stderr_tail)
    return True


def _read(command: str, written: bytes, expected: set[str]) -> dict[str, Judgement]:
    """Return id -> judgement for all expected ids. InputError for the first line that is not a valid answer."""
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
            raise _failure(command, f"{where} an unknown id: {_shown(name)}")
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
        raise _failure(command, f"{where} an `extracted` or `rule` that is not text: {_shown(answer)}")
    return Judgement(Verdict(verdict), None if extracted is None else storable(extracted), storable(rule))


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _failure(command: str, what: str, stderr_tail: bytes | bytearray = b"") -> InputError:
    message = stderr_tail.decode(errors="replace").strip()
    return InputError(f"the judge `{command}` {what}." + (f" Its standard error:\n{message}" if message else ""))
