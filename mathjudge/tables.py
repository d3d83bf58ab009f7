"""Tables of answers in files: Parquet, CSV and JSON lines in, Parquet out."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from mathjudge.verdict import MathJudgeError

if TYPE_CHECKING:
    import polars as pl

TEXT = ("gold", "response", "prediction")
"""Columns of a CSV that are read as text: 1/2 may follow a thousand integers, and 073 is no number."""


def read_table(path: Path, text: Collection[str] | None = TEXT) -> pl.DataFrame:
    """Read a Parquet, CSV or JSON-lines file.

    text: columns of a CSV that stay text as they are written; None for all columns.
    MathJudgeError if the file is missing, or does not have the format that its name ends in.
    """
    import polars as pl

    def read_csv() -> pl.DataFrame:
        names = pl.read_csv(path, n_rows=0).columns
        as_text = {name: pl.String for name in names if text is None or name in text}
        return pl.read_csv(path, schema_overrides=as_text, infer_schema_length=None)

    readers: dict[str, Callable[[], pl.DataFrame]] = {
        ".parquet": lambda: pl.read_parquet(path, glob=False),
        ".csv": read_csv,
        ".jsonl": lambda: pl.read_ndjson(path, infer_schema_length=None),
        ".ndjson": lambda: pl.read_ndjson(path, infer_schema_length=None),
    }
    if path.suffix not in readers:
        raise MathJudgeError(f"{path}: unknown kind of table; known: {', '.join(readers)}.")
    try:
        return readers[path.suffix]()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise MathJudgeError(f"{path}: cannot be read ({error}).") from error


def make_folder(folder: Path) -> None:
    """Create a folder and its parents. MathJudgeError if it cannot be created."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MathJudgeError(f"--out: {folder} cannot be written to ({error}).") from error


def write_table(table: pl.DataFrame, path: Path) -> None:
    """Write a Parquet file under a temporary name and rename it, so a reader never sees an incomplete file.

    MathJudgeError if it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        table.write_parquet(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise MathJudgeError(f"--out: {path} cannot be written to ({error}).") from error
    finally:
        temporary.unlink(missing_ok=True)
