"""Reference answers from a file of problems, for completions whose file has none (TRL's, for example)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from extra_rl.config.sections import SourceConfig
from extra_rl.errors import InputError
from extra_rl.imported.records import Record
from extra_rl.problems.files import read_files
from extra_rl.problems.sources import RawProblem, read_source
from extra_rl.tasks.conversation import Conversation

SOURCE = "answers"
IDS = ("problem_id", "id")


def read_answers(path: str) -> list[RawProblem]:
    """Return the problems of a file with reference answers (docs/data.md). Raises InputError."""
    table = read_files(path)
    named = next((name for name in IDS if name in table.columns), None)
    return read_source(SOURCE, SourceConfig(path=path, id=named), Path(path) if Path(path).is_file() else None).problems


def with_answers(recorded: Sequence[Record], problems: Sequence[RawProblem]) -> list[Record]:
    """Return the records with the answer, id and statement of their problem; those without a problem are unchanged.

    A record belongs to the problem with its id; else to the one whose text its prompt is; else to the one with the
    longest text that stands in its prompt. An answer of the record's own file is replaced.
    Raises InputError where two problems with that text have different answers.
    """
    by_id = {problem.problem_id.removeprefix(f"{SOURCE}/"): problem for problem in problems}
    by_text: dict[str, RawProblem] = {}
    for problem in problems:
        other = by_text.setdefault(problem.text.strip(), problem)
        if other.answer != problem.answer:
            raise InputError(
                f"{problem.place} and {other.place} have the same problem and different reference answers. Remove one."
            )
    longest = sorted(by_text, key=len, reverse=True)
    found: dict[str, RawProblem | None] = {}
    made = []
    for record in recorded:
        problem_of = by_id.get(record.problem_id or "")
        if problem_of is None:
            text = _text_of(record)
            if text not in found:
                place = text if text in by_text else next((one for one in longest if one and one in text), None)
                found[text] = None if place is None else by_text[place]
            problem_of = found[text]
        made.append(record if problem_of is None else _joined(record, problem_of))
    return made


def _text_of(record: Record) -> str:
    if record.prompt is not None:
        return record.prompt.strip()
    problem = record.problem
    return (problem.text if isinstance(problem, Conversation) else problem or "").strip()


def _joined(record: Record, problem: RawProblem) -> Record:
    known = problem.problem_id.removeprefix(f"{SOURCE}/")
    statement = record.problem if record.problem is not None else problem.text
    return replace(record, answer=problem.answer, problem=statement, problem_id=record.problem_id or known)
