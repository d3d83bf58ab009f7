"""The rows of a problem source, from a local file or the hub: id, statement, gold, tolerance."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from extra_rl.config.benchmarks import SUFFIXES
from extra_rl.config.sections import SourceConfig
from extra_rl.errors import InputError
from extra_rl.problems import hub
from extra_rl.tables.files import canonical_json


@dataclass(frozen=True)
class RawProblem:
    """A problem as its source states it. Tolerances: the error that a number may have, 0 for none. solution: worked."""

    problem_id: str
    benchmark: str
    text: str
    answer: str
    relative_tolerance: float = 0.0
    absolute_tolerance: float = 0.0
    solution: str | None = None


@dataclass(frozen=True)
class Source:
    """What was read: its configuration, its problems, how many rows it had before `limit`, and which commit."""

    name: str
    config: SourceConfig
    problems: list[RawProblem]
    rows: int
    commit: str | None

    @property
    def digest(self) -> str:
        """SHA-256 over id, statement and gold of the problems that were taken, in their order."""
        digest = hashlib.sha256()
        for problem in self.problems:
            digest.update(canonical_json([problem.problem_id, problem.text, problem.answer]).encode() + b"\n")
        return digest.hexdigest()


def read_source(name: str, config: SourceConfig, path: Path | None = None) -> Source:
    """The problems of a source; an id is prefixed with the source's name, so that sources never collide.

    path: read this file instead of the one that the configuration names (a stage's input).
    Raises InputError that names the source and the column or row at fault, or the number of rows where another was
    expected.
    """
    where = str(path or config.path or config.dataset)
    frame, commit = hub.load(config) if config.dataset else (_read_file(path or Path(config.path or "")), None)
    if config.rows is not None and len(frame) != config.rows:
        raise InputError(
            f"{where}: {name} should have {config.rows} rows, it has {len(frame)}. Take the right file or revision, or "
            f"set `rows` of this source to what you expect (null: anything)."
        )
    rows = len(frame)
    frame = frame.head(config.limit) if config.limit else frame
    ids = _texts(frame, config.id, where) if config.id else [str(number) for number in range(len(frame))]
    texts, answers = _texts(frame, config.problem, where), _texts(frame, config.answer, where)
    _refuse_empty(where, texts, answers, ids)
    _refuse_repeated(where, ids)
    tolerances = _numbers(_column(frame, config.tolerance, where), where) if config.tolerance else [0.0] * len(frame)
    solutions = _texts(frame, config.solution, where) if config.solution else [""] * len(frame)
    problems = [
        RawProblem(
            f"{name}/{row_id}", name, text, answer, config.relative_tolerance, tolerance, solution.strip() or None
        )
        for row_id, text, answer, tolerance, solution in zip(ids, texts, answers, tolerances, solutions, strict=True)
    ]
    return Source(name, config, problems, rows, commit)


def _read_file(path: Path) -> pl.DataFrame:
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: expected a {' or '.join(SUFFIXES)} file of problems.")
    if not path.is_file():
        raise InputError(f"{path}: no such file of problems. Check the path in the configuration's task section.")
    try:
        if path.suffix == ".parquet":
            return pl.read_parquet(path, glob=False)
        return pl.read_ndjson(path, infer_schema_length=None)
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{path}: not a readable {path.suffix} file ({error}).") from error


def _column(frame: pl.DataFrame, name: str, where: str) -> pl.Series:
    """A column by its name, or by a dotted path into structs."""
    if name in frame.columns:
        return frame[name]
    top, *fields = name.split(".")
    column = frame[top] if top in frame.columns else None
    for field in fields:
        inner = column.struct.fields if column is not None and isinstance(column.dtype, pl.Struct) else []
        column = column.struct.field(field) if column is not None and field in inner else None
    if column is None:
        raise InputError(
            f"{where}: no column {name} (it has {', '.join(frame.columns)}). Name the right one in the configuration's "
            "task section."
        )
    return column


def _texts(frame: pl.DataFrame, name: str, where: str) -> list[str]:
    """A column as text, null as "": of chat messages the user's last, of a list its members joined by ", "."""
    column = _column(frame, name, where)
    dtype = column.dtype
    if isinstance(dtype, pl.List | pl.Array):
        return [_joined(value or [], where, name) for value in column.to_list()]
    if dtype.is_nested():
        raise InputError(f"{where}: column {name} holds {dtype}; name one of its fields, with a dot.")
    return column.cast(pl.String).fill_null("").to_list()


def _joined(values: Sequence[object], where: str, name: str) -> str:
    if values and all(isinstance(value, Mapping) for value in values):
        said = [value["content"] for value in values if isinstance(value, Mapping) and value.get("role") == "user"]
        return str(said[-1]) if said else ""
    if any(isinstance(value, Mapping | list) for value in values):
        raise InputError(f"{where}: column {name} holds nested lists; expected text, or a list of texts.")
    return ", ".join(str(value) for value in values if value is not None)


def _numbers(column: pl.Series, where: str) -> list[float]:
    """Tolerances; empty means 0."""
    numbers = []
    for row, value in enumerate(column.to_list()):
        try:
            number = float(value) if value not in (None, "") else 0.0
        except (TypeError, ValueError):
            number = math.nan
        if not 0 <= number < math.inf:
            raise InputError(f"{where}: row {row} has the tolerance {value!r}; expected a number of 0 or more.")
        numbers.append(number)
    return numbers


def _refuse_empty(where: str, *columns: list[str]) -> None:
    empty = [row for row, values in enumerate(zip(*columns, strict=True)) if not all(v.strip() for v in values)]
    if empty:
        raise InputError(f"{where}: problem, answer or id is empty in row(s) {empty[:5]}.")


def _refuse_repeated(where: str, ids: Sequence[str]) -> None:
    first: dict[str, int] = {}
    for row, row_id in enumerate(ids):
        if first.setdefault(row_id, row) != row:
            raise InputError(
                f"{where}: rows {first[row_id]} and {row} have the same id {row_id!r}. Name a column of unique ids, or "
                "set `id: null` to number the rows."
            )
