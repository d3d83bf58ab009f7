"""The problems of a source, from local files or the hub: id, statement or conversation, reference answer, tolerance."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from extra_rl.config.sections import SourceConfig
from extra_rl.errors import InputError
from extra_rl.problems import columns, hub
from extra_rl.problems.columns import CellError, Roles
from extra_rl.problems.files import Part, Row, Table, read_files
from extra_rl.tables.files import canonical_json
from extra_rl.tasks.conversation import (
    Conversation,
    ConversationError,
    is_conversation,
    parse_conversation,
    python_list,
)

SHOWN = 5


@dataclass(frozen=True)
class RawProblem:
    """A problem as its source states it.

    Args:
        text: the statement; of a conversation all turns without a system message (`Conversation.text`).
        relative_tolerance, absolute_tolerance: the error that a number may have, 0 for none.
        solution: a worked solution.
        conversation: what is sent instead of `text`; None for a statement alone.
        place: file and row, for messages.
    """

    problem_id: str
    benchmark: str
    text: str
    answer: str
    relative_tolerance: float = 0.0
    absolute_tolerance: float = 0.0
    solution: str | None = None
    conversation: Conversation | None = None
    place: str = ""

    @property
    def prompt(self) -> str | Conversation:
        """What is rendered as the prompt."""
        return self.conversation or self.text


@dataclass(frozen=True)
class MissingValue:
    """A row without a problem, an answer or an id. problem: what the row has, with "" for what is missing."""

    problem: RawProblem
    column: str


@dataclass(frozen=True)
class Source:
    """What was read: configuration, problems, number of rows before `limit`, commit of the hub, format and columns.

    missing: rows that were left out by `missing: drop`.
    """

    name: str
    config: SourceConfig
    problems: list[RawProblem]
    rows: int
    commit: str | None
    format: str
    columns: list[str]
    roles: Roles
    missing: list[MissingValue] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """SHA-256 over id, statement and answer of the problems that were taken, and their messages, in order."""
        digest = hashlib.sha256()
        for problem in self.problems:
            fields: list[object] = [problem.problem_id, problem.text, problem.answer]
            if problem.conversation:
                fields.append([[message.role, message.content] for message in problem.conversation.messages])
            digest.update(canonical_json(fields).encode() + b"\n")
        return digest.hexdigest()


def read_source(name: str, config: SourceConfig, path: Path | None = None) -> Source:
    """Return the problems of a source; an id is prefixed with the source's name, so that sources never collide.

    path: read this file instead of the one that the configuration names (a stage's input).
    Raises InputError that names the file and the column or row at fault, or the number of rows where another was
    expected.
    """
    table, commit = read_table(config, path)
    if config.rows is not None and len(table.rows) != config.rows:
        raise InputError(
            f"{table.name}: {name} should have {config.rows} rows, it has {len(table.rows)}. Take the right file or "
            "revision, or set `rows` of this source to what you expect (null: anything)."
        )
    roles = columns.recognise(table, config)
    taken = table.rows[: config.limit] if config.limit else table.rows
    problems, missing = [], []
    for number, row in enumerate(taken):
        problem, absent = _problem(name, config, roles, table, number, row)
        if absent is None:
            problems.append(problem)
        else:
            missing.append(MissingValue(problem, absent))
    if missing and config.missing == "refuse":
        _refuse_missing(missing, len(taken))
    _refuse_repeated(problems)
    return Source(name, config, problems, len(table.rows), commit, table.format, table.columns, roles, missing)


def read_table(config: SourceConfig, path: Path | None = None) -> tuple[Table, str | None]:
    """Return all rows and columns of a source, and the commit that they have on the hub. Raises InputError."""
    if config.dataset:
        rows, commit = hub.load(config)
        return Table(config.dataset, "Hugging Face data set", [Part(config.dataset, rows)]), commit
    return read_files(str(path or config.path or ""), config.split), None


def _problem(
    name: str, config: SourceConfig, roles: Roles, table: Table, number: int, row: Row
) -> tuple[RawProblem, str | None]:
    """One row as a problem, and the column of a value that it does not have."""
    place = table.place(number)
    if media := columns.media_of(row):
        raise InputError(
            f"{place}: column {media} is not empty, and only text can be sent: remove the row, or the column where the "
            "text is complete without it."
        )
    statement = _cell(row, roles.problem, place)
    conversation, text = None, None
    if is_conversation(statement):
        conversation, text = _conversation(statement, roles, place)
    elif isinstance(statement, list) and statement:
        raise InputError(
            f"{place}: column {roles.problem} holds a list; expected text or messages. Write one problem a row."
        )
    else:
        text = _text(statement, roles.problem, place)
        if text is not None and python_list(text):
            raise InputError(
                f"{place}: column {roles.problem} holds a list of messages as Python prints it, which is not read: "
                "write the file as JSON lines or Parquet, or the column with json.dumps."
            )
    answer = _text(_cell(row, roles.answer, place), roles.answer, place)
    row_id = _text(_cell(row, roles.id, place), roles.id, place) if roles.id else str(number)
    absent = next(
        (
            column
            for column, value in ((roles.problem, text), (roles.answer, answer), (roles.id, row_id))
            if value is None
        ),
        None,
    )
    tolerance = columns.tolerance_of(_cell(row, config.tolerance, place)) if config.tolerance else 0.0
    if tolerance is None:
        given = _cell(row, str(config.tolerance), place)
        raise InputError(f"{place} has the tolerance {given!r}; expected a number of 0 or more.")
    solution = _text(_cell(row, config.solution, place), config.solution, place) if config.solution else None
    problem = RawProblem(
        problem_id=f"{name}/{f'row {number}' if row_id is None else row_id}",
        benchmark=name,
        text=text or "",
        answer=answer or "",
        relative_tolerance=config.relative_tolerance,
        absolute_tolerance=tolerance,
        solution=solution.strip() if solution else None,
        conversation=conversation,
        place=place,
    )
    return problem, absent


def _conversation(value: object, roles: Roles, place: str) -> tuple[Conversation | None, str | None]:
    """The conversation of a cell and its text; of a user's message alone only the text, of a missing one neither."""
    try:
        conversation = Conversation(parse_conversation(value, roles.share_gpt), place)
    except ConversationError as error:
        raise InputError(
            f"{place}: column {roles.problem} holds a conversation that cannot be sent: {error}."
        ) from error
    if columns.is_missing_text(conversation.turns[-1].content):
        return None, None
    alone = len(conversation.messages) == 1
    return None if alone else conversation, conversation.text


def _cell(row: Row, column: str, place: str) -> object:
    try:
        return columns.cell(row, column)
    except CellError as error:
        raise InputError(f"{place}: column {column} {error}.") from error


def _text(value: object, column: str, place: str) -> str | None:
    try:
        return columns.text_of(value)
    except CellError as error:
        raise InputError(f"{place}: column {column} {error}.") from error


def _refuse_missing(missing: Sequence[MissingValue], taken: int) -> None:
    first = "; ".join(f"{found.problem.place}: {found.column}" for found in missing[:SHOWN])
    more = f"; and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    raise InputError(
        f"{len(missing)} of {taken} rows have no value (null, NaN, empty, or a word such as nan or None) where one is "
        f"needed. {first}{more}. Mend them, or set `missing: drop` of this source, which leaves these rows out."
    )


def _refuse_repeated(problems: Sequence[RawProblem]) -> None:
    first: dict[str, RawProblem] = {}
    for problem in problems:
        other = first.setdefault(problem.problem_id, problem)
        if other is not problem:
            raise InputError(
                f"{other.place} and {problem.place} have the same id {problem.problem_id.partition('/')[2]!r}. Name a "
                "column of unique ids, or set `id: null` to number the rows."
            )
