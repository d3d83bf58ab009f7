"""Rows of problems from local files: CSV, TSV, JSON, JSON lines and Parquet, alone, compressed, or several together.

Every value of a CSV or TSV file is a text, as it is written: 073 stays 073. Rows are numbered from 0, lines from 1.
What cannot be read raises one InputError that names the file and, where there is one, the line.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from extra_rl.errors import InputError
from extra_rl.problems.frames import first_line, is_saved, load_saved, rows_of_frame

Row = dict[str, object]

FORMATS = {
    ".parquet": "Parquet",
    ".jsonl": "JSON lines",
    ".ndjson": "JSON lines",
    ".json": "JSON",
    ".csv": "CSV",
    ".tsv": "TSV",
}
"""Suffix -> format. Text formats may also be compressed: .jsonl.gz, .csv.gz."""

WILDCARDS = re.compile(r"[*?\[]")
SPLIT = re.compile(r"(train|test|validation|valid|val|dev|eval)(?![a-z])")

GZIP = b"\x1f\x8b"
NOT_DATA = {
    b"version https://git-lfs": "a Git LFS pointer and not the file itself: run `git lfs pull`",
    b"<!doctype": "a web page, not data: download the file itself",
    b"<html": "a web page, not data: download the file itself",
    b"\xff\xfe": "UTF-16 text: save it as UTF-8",
    b"\xfe\xff": "UTF-16 text: save it as UTF-8",
    b"pk\x03\x04": "a zip archive: unpack it",
}


@dataclass(frozen=True)
class Part:
    """The content of one file. lines: line of each row, None in a format without lines."""

    path: str
    rows: list[Row]
    lines: list[int] | None = None


@dataclass(frozen=True)
class Table:
    """The rows of a source. name: for messages. columns: in the order in which they first occur."""

    name: str
    format: str
    parts: list[Part]
    rows: list[Row] = field(init=False)
    columns: list[str] = field(init=False)

    def __post_init__(self) -> None:
        rows = [row for part in self.parts for row in part.rows]
        object.__setattr__(self, "rows", rows)
        object.__setattr__(self, "columns", list(dict.fromkeys(name for row in rows for name in row)))

    def place(self, number: int) -> str:
        """Return file, row and, if the format has lines, line of a row that is counted over all parts."""
        for part in self.parts:
            if number < len(part.rows):
                line = f" (line {part.lines[number]})" if part.lines else ""
                return f"{part.path}, row {number}{line}"
            number -= len(part.rows)
        raise IndexError(number)


def read_files(path: str, split: str = "train") -> Table:
    """Return the rows of a file, of all data files of a folder, or of all files that match a pattern.

    path: a file, a folder, a pattern with `*`, or a directory that `datasets` saved. split: of such a directory.
    Raises InputError for what is missing or cannot be read, mixed formats or splits, and no rows at all.
    """
    if is_saved(Path(path)):
        table = Table(path, "Hugging Face directory", [Part(path, load_saved(path, split))])
    else:
        files = files_of(path)
        kinds = {format_of(file) for file in files}
        if len(kinds) > 1:
            raise InputError(
                f"{path}: holds files of several formats ({', '.join(sorted(kinds))}); name those that are meant, for "
                f"example `{Path(path)}/*.parquet`."
            )
        count = f" ({len(files)} files)" if len(files) > 1 else ""
        table = Table(path, f"{kinds.pop()}{count}", [read_part(file) for file in files])
    if not table.rows:
        raise InputError(f"{path}: holds no rows.")
    return table


def files_of(path: str) -> list[Path]:
    """Return the data files that a path names, sorted by name. Raises InputError where there is none, or two splits."""
    place = Path(path)
    if place.is_file():
        return [place]
    if place.is_dir():
        found = [file for file in sorted(place.iterdir()) if file.is_file() and suffix_of(file) in FORMATS]
    elif WILDCARDS.search(path):
        root = Path(place.anchor) if place.is_absolute() else Path()
        pattern = str(place.relative_to(place.anchor)) if place.is_absolute() else path
        found = sorted(file for file in root.glob(pattern) if file.is_file())
    else:
        raise InputError(f"{path}: no such file of problems. Check the path in the configuration's task section.")
    if not found:
        raise InputError(f"{path}: no data file there. Known formats: {', '.join(FORMATS)}, text also with .gz.")
    splits = sorted({match[1] for file in found if (match := SPLIT.match(file.name.lower()))})
    if len(splits) > 1:
        raise InputError(
            f"{path}: holds files of several splits ({', '.join(splits)}), which would be mixed; name one of them, "
            f"for example `{(place if place.is_dir() else place.parent) / (splits[0] + '*')}`."
        )
    return found


def suffix_of(path: Path) -> str:
    """Return the suffix that decides the format, without a `.gz` after it."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def format_of(path: Path) -> str:
    """Return the format of a file by its suffix. Raises InputError for one that is not known."""
    if (suffix := suffix_of(path)) not in FORMATS:
        raise InputError(f"{path}: expected a {', '.join(FORMATS)} file of problems; text may be compressed (.gz).")
    return FORMATS[suffix]


def read_part(path: Path) -> Part:
    """Return the rows of one file. Raises InputError for a file that cannot be read."""
    kind = format_of(path)
    if kind == "Parquet":
        return Part(str(path), _parquet_rows(path))
    text = _text(path)
    return rows_of_text(path, kind, text)


def rows_of_text(path: Path, kind: str, text: str, limit: int | None = None) -> Part:
    """Return the rows of a text file; with `limit` the first of them, and what follows is not looked at."""
    if kind in ("CSV", "TSV"):
        return _separated(path, text, "," if kind == "CSV" else "\t", limit)
    return _json_array(path, text) if text.lstrip().startswith("[") else _json_lines(path, text, limit)


def _parquet_rows(path: Path) -> list[Row]:
    import polars as pl

    _refuse_other_content(path, _bytes(path, 64))
    try:
        return rows_of_frame(pl.read_parquet(path, glob=False))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(
            f"{path}: not a readable Parquet file, or one that is cut off ({first_line(error)})."
        ) from error


def _bytes(path: Path, count: int = -1) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error


def _refuse_other_content(path: Path, content: bytes) -> None:
    if not content.strip():
        raise InputError(f"{path}: the file is empty.")
    for beginning, what in NOT_DATA.items():
        if content[: len(beginning)].lower() == beginning:
            raise InputError(f"{path}: this is {what}.")


def _text(path: Path) -> str:
    """Return the file as text: UTF-8 without a byte order mark, decompressed if it is compressed."""
    content = _bytes(path)
    if content.startswith(GZIP):
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise InputError(f"{path}: the compressed data are damaged or cut off ({first_line(error)}).") from error
    elif path.name.lower().endswith(".gz"):
        raise InputError(f"{path}: its name ends in .gz, but it is not compressed: rename it.")
    _refuse_other_content(path, content)
    if content.startswith(b"PAR1"):
        raise InputError(f"{path}: this is a Parquet file: name it .parquet.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(f"{path}: line {line} is not UTF-8 text: save the file as UTF-8.") from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise InputError(f"{path}: line {line} holds a NUL character: save the file as UTF-8 text.")
    return text


def _separated(path: Path, text: str, separator: str, limit: int | None) -> Part:
    """Return the rows of a CSV or TSV file. InputError for rows that do not have the header's number of fields."""
    header: list[str] = []
    rows: list[Row] = []
    lines = []
    for line, fields in _records(path, text, separator):
        if not header:
            header = _checked_header(path, fields)
            continue
        if len(fields) != len(header):
            raise InputError(
                f"{path}: line {line} has {len(fields)} fields and the header {len(header)}: the line is cut off, or a "
                "text with a separator or line break is not in quotes."
            )
        rows.append(dict(zip(header, fields, strict=True)))
        lines.append(line)
        if len(rows) == limit:
            break
    return Part(str(path), rows, lines)


def _records(path: Path, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line on which each record begins, and its fields; blank lines are skipped."""
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(f"{path}: the record that begins on line {line} cannot be read ({error}).") from error
        if fields:
            yield line, fields


def _checked_header(path: Path, names: list[str]) -> list[str]:
    if len(names) == 1 and (separator := next((mark for mark in ";\t|" if mark in names[0]), None)):
        raise InputError(
            f"{path}: its columns are separated by {separator!r}: save it with commas (.csv) or with tabs (.tsv)."
        )
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{path}: the header names {', '.join(map(repr, repeated))} twice.")
    return names


def _json_array(path: Path, text: str) -> Part:
    try:
        members = json.loads(text, object_pairs_hook=unrepeated)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a readable JSON file, or one that is cut off ({_reason(error)}).") from error
    rows: list[Row] = []
    for number, member in enumerate(members):
        if not isinstance(member, dict):
            raise InputError(f"{path}, row {number}: holds a {_kind(member)}; expected an object of columns.")
        rows.append(member)
    return Part(str(path), rows)


def _json_lines(path: Path, text: str, limit: int | None) -> Part:
    rows: list[Row] = []
    lines = []
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines(): a JSON text may hold U+2028
        if not line.strip():
            continue
        try:
            member = json.loads(line, object_pairs_hook=unrepeated)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{path}: line {number} is not JSON, or it is cut off ({_reason(error, lines=False)}). Expected one "
                "object a line, or one array of objects."
            ) from error
        if not isinstance(member, dict):
            raise InputError(f"{path}: line {number} holds a {_kind(member)}; expected an object of columns.")
        rows.append(member)
        lines.append(number)
        if len(rows) == limit:
            break
    return Part(str(path), rows, lines)


class RepeatedKeyError(ValueError):
    """An object of a JSON text has a key twice."""


def unrepeated(pairs: Sequence[tuple[str, object]]) -> Row:
    """Return an object; for `json.loads`. RepeatedKeyError for a key twice, of which the parser keeps the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise RepeatedKeyError(f"the key {next(name for name in names if names.count(name) > 1)!r} occurs twice")
    return found


def _reason(error: Exception, lines: bool = True) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg}: {f'line {error.lineno}, ' if lines else ''}column {error.colno}"
    return first_line(error)


def _kind(value: object) -> str:
    kinds: dict[type, str] = {list: "list", str: "text", bool: "truth value", type(None): "null"}
    return kinds.get(type(value), "number")
