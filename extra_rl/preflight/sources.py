"""Faults of the local files of problems: a missing file, an unreadable one, a column that its first rows have not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from extra_rl.config.benchmarks import SUFFIXES
from extra_rl.config.mistakes import nearest
from extra_rl.config.sections import SourceConfig, TaskConfig

FIRST_ROWS = 20
"""Rows of a text file whose columns are looked at; a Parquet file names its columns itself."""
COLUMNS = ("problem", "answer", "solution", "id", "tolerance")
"""Keys of a source that name a column."""


def faults_of_sources(task: TaskConfig) -> Iterator[str]:
    """One line for every fault of a local file that the task names."""
    if task.folder is not None and not Path(task.folder).is_dir():
        yield f"task.folder: {task.folder}: there is no such directory"
    if task.name != "math":
        return
    for key, sources in (("train", task.train), ("benchmarks", task.benchmarks)):
        for name, source in sources.items():
            yield from faults_of_source(f"task.{key}.{name}", source)


def faults_of_source(place: str, source: SourceConfig) -> Iterator[str]:
    """The faults of one source. place: its path in the configuration. A data set of the hub is not looked at."""
    if source.path is None:
        if str(source.dataset).startswith((".", "/", "~")) and not Path(str(source.dataset)).exists():
            yield f"{place}.dataset: {source.dataset}: there is no such directory"
        return
    path = Path(source.path)
    if not path.is_file():
        yield f"{place}.path: {path}: there is no such file"
        return
    if path.suffix not in SUFFIXES:
        yield f"{place}.path: {path}: expected a {' or '.join(SUFFIXES)} file of problems"
        return
    try:
        schema = _schema(path)
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        yield f"{place}.path: {path}: not a readable {path.suffix} file ({str(error).splitlines()[0]})"
        return
    for key in COLUMNS:
        column = getattr(source, key)
        if column is not None and not has_column(schema, column):
            yield (
                f"{place}.{key}: {path} has no column {column} (it has {', '.join(schema)}){nearest(column, schema)}"
            )


def has_column(schema: pl.Schema, name: str) -> bool:
    """Whether there is a column of this name, or a field that the dotted path leads to."""
    if name in schema:
        return True
    top, *fields = name.split(".")
    found: object = schema.get(top)
    for field in fields:
        inner = found.fields if isinstance(found, pl.Struct) else []
        found = next((member.dtype for member in inner if member.name == field), None)
    return found is not None and bool(fields)


def _schema(path: Path) -> pl.Schema:
    """The columns of a file, of a text file from its first rows."""
    if path.suffix == ".parquet":
        return pl.Schema(pl.read_parquet_schema(path))
    return pl.read_ndjson(path, n_rows=FIRST_ROWS, infer_schema_length=FIRST_ROWS).schema
