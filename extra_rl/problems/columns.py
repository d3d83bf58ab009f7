"""The columns of problems and reference answers in a table, and the content of their cells."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from extra_rl.config.mistakes import nearest
from extra_rl.config.sections import SourceConfig
from extra_rl.errors import InputError
from extra_rl.problems.files import RepeatedKeyError, Row, Table, unrepeated

MISSING_WORDS = frozenset(
    [
        *("", "nan", "+nan", "-nan", "none", "null", "nat", "<na>", "n/a", "#n/a", "#n/a n/a", "inf", "+inf", "-inf"),
        *("1.#qnan", "-1.#qnan", "1.#ind", "-1.#ind"),
    ]
)
"""Texts that mean no value, in any case and with white space or dollar signs around them: what pandas, polars and
spreadsheets write. None of them is ever a reference answer; `\\text{None}` is one."""

MEDIA = ("image", "images", "video", "videos", "audio", "audios")
"""Columns whose content belongs to the problem and cannot be sent."""

DEFAULT_ID = "id"

ABSENT = object()
"""The value of `cell` if a row has no such column."""


@dataclass(frozen=True)
class Layout:
    """A convention of column names. answers: columns of the reference answer, of which the first that exists counts."""

    name: str
    problem: str
    answers: tuple[str, ...]


SHARE_GPT = "ShareGPT"

LAYOUTS = (
    Layout("problem and answer", "problem", ("answer", "solution")),
    Layout("verl", "prompt", ("reward_model.ground_truth",)),
    Layout(SHARE_GPT, "conversations", ("answer", "solution", "ground_truth", "reward_model.ground_truth")),
    Layout("messages", "messages", ("answer", "solution", "ground_truth", "reward_model.ground_truth")),
    Layout("TRL", "prompt", ("answer", "solution", "ground_truth")),
    Layout("question and answer", "question", ("answer", "final_answer", "solution")),
)
"""In the order in which they are tried; docs/data.md has the same table."""


@dataclass(frozen=True)
class Roles:
    """The columns that a source is read from.

    Args:
        layout: the convention, or "named" where the configuration names both columns.
        id: None where rows are numbered.
        share_gpt: whether messages with `from` and `value` are expected: where the convention has them, or the
            configuration names the column itself.
    """

    layout: str
    problem: str
    answer: str
    id: str | None
    share_gpt: bool


class CellError(ValueError):
    """The reason why a cell cannot be read as text; the caller adds file, row and column."""


def recognise(table: Table, config: SourceConfig) -> Roles:
    """Return the columns of a table: those that the configuration names, the others by the first layout that fits.

    Raises InputError where a named column does not exist or no layout fits.
    """
    for name in (config.problem, config.answer, config.solution, config.tolerance):
        if name is not None:
            require_column(table, name)
    found = DEFAULT_ID if config.id == DEFAULT_ID and has_column(table, DEFAULT_ID) else None
    if config.id not in (None, DEFAULT_ID):
        require_column(table, str(config.id))
        found = config.id
    for layout in LAYOUTS:
        problem = config.problem or layout.problem
        answer = config.answer or next((name for name in layout.answers if has_column(table, name)), None)
        if answer is not None and has_column(table, problem):
            name = "named" if config.problem and config.answer else layout.name
            return Roles(name, problem, answer, found, bool(config.problem) or layout.name == SHARE_GPT)
    known = "; ".join(f"{layout.problem} with {' or '.join(layout.answers)}" for layout in LAYOUTS)
    raise InputError(
        f"{table.name}: no columns of problems and reference answers are known there (it has "
        f"{shown(table.columns)}). Known: {known}. Name others with `problem` and `answer` of the source."
    )


def require_column(table: Table, name: str) -> None:
    """Raise InputError where no row has this column (a dot leads into a struct)."""
    if not has_column(table, name):
        raise InputError(
            f"{table.name}: no column {name} (it has {shown(table.columns)}). Name the right one in the "
            f"configuration's task section{nearest(name, table.columns) or '.'}"
        )


def has_column(table: Table, name: str) -> bool:
    """Return whether any row has this column."""
    return any(_has_cell(row, name) for row in table.rows)


def _has_cell(row: Row, name: str) -> bool:
    try:
        return cell(row, name) is not ABSENT
    except CellError:  # reported with its row when it is read
        return True


def cell(row: Row, name: str) -> object:
    """Return a row's value by column name or a dotted path into structs or their JSON text; ABSENT: no such column.

    A struct that is null itself has null fields. Raises CellError for JSON text that has a key twice.
    """
    if name in row:
        return row[name]
    top, *fields = name.split(".")
    value = row.get(top, ABSENT)
    for key in fields:
        if isinstance(value, str):
            value = _struct(value)
        if value is None:
            return None
        value = value.get(key, ABSENT) if isinstance(value, Mapping) else ABSENT
    return value if fields else ABSENT


def _struct(text: str) -> object:
    """Return the object that a JSON text encodes, None for an empty text, the text itself if it is not an object.

    Raises CellError for an object that has a key twice.
    """
    if is_missing_text(text):
        return None
    if not text.lstrip().startswith("{"):
        return text
    try:
        return json.loads(text, object_pairs_hook=unrepeated)
    except RepeatedKeyError as error:
        raise CellError(f"holds JSON that cannot be read: {error}") from error
    except (ValueError, RecursionError):
        return text


def is_missing_text(text: str) -> bool:
    """Return whether a text means no value (`MISSING_WORDS`)."""
    return text.strip().strip("$").strip().casefold() in MISSING_WORDS


def text_of(value: object) -> str | None:
    """Return a cell as text, None where it is missing.

    Missing: an absent column, null, a number that is not finite, `MISSING_WORDS`, and a list that is empty or has a
    missing member. The members of a list are joined by ", ". A float is written out without an exponent, because a
    reader of LaTeX takes 1e5 for a product. Raises CellError for structs, nested lists, bytes, dates and other types
    whose text is a matter of taste, and text that UTF-8 cannot store.
    """
    if value is ABSENT or value is None:
        return None
    if isinstance(value, str):
        if not value.isascii():
            _require_storable(value)
        return None if is_missing_text(value) else value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return _decimal(value) if math.isfinite(value) else None
    if isinstance(value, bytes | bytearray):
        raise CellError("holds bytes; expected text")
    if isinstance(value, Mapping):
        raise CellError(
            f"holds a struct of {', '.join(map(str, value)) or 'nothing'}; name one of its fields, with a dot"
        )
    if isinstance(value, Sequence):
        if any(isinstance(member, Mapping | list | tuple) for member in value):
            raise CellError("holds nested lists; expected text, or a list of texts")
        members = [text_of(member) for member in value]
        return None if None in members or not members else ", ".join(text for text in members if text is not None)
    if not isinstance(value, int | Decimal):
        raise CellError(f"holds a {type(value).__name__}; expected text or a number: write it as text")
    return str(value)


def _decimal(number: float) -> str:
    text = repr(number)
    if "e" not in text:
        return text
    written = format(Decimal(text), "f")
    return written if "." in written else f"{written}.0"


def _require_storable(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise CellError("holds half of a surrogate pair, which is not text") from None


def tolerance_of(value: object) -> float | None:
    """Return the absolute error that a cell allows, 0 for a missing one, None where it is no number of 0 or more."""
    try:
        text = text_of(value)
        number = float(text) if text is not None else 0.0
    except ValueError:  # a CellError is one
        return None
    return number if 0 <= number < math.inf else None


def media_of(row: Row) -> str | None:
    """Return the name of a column with an image, video or sound of this row, None if there is none.

    Such a column has a known name (`MEDIA`), or holds files as the library `datasets` stores them.
    """
    return next((name for name, value in row.items() if _is_media(name, value)), None)


def _is_media(name: str, value: object) -> bool:
    if name in MEDIA and value:
        return not (isinstance(value, str) and is_missing_text(value))
    members = value if isinstance(value, list) else (value,)
    return any(isinstance(member, dict) and isinstance(member.get("bytes"), bytes) for member in members)


def shown(names: Sequence[str]) -> str:
    """Return column names for a message; blanks and characters that cannot be seen are made visible."""
    return ", ".join(name if name.isprintable() and name == name.strip() else repr(name) for name in names)
