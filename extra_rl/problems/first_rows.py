"""The first rows of a local source, for a check before a run: a few of a large file, read in milliseconds."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from extra_rl.errors import InputError
from extra_rl.problems.files import GZIP, Part, Table, files_of, format_of, read_part, rows_of_text
from extra_rl.problems.frames import is_saved, rows_of_frame

BEGINNING = 1 << 20
"""Bytes of a text file that are read."""


def first_rows(path: str, count: int) -> Table | None:
    """Return the first `count` rows of the first file that a path names.

    None where no row can be read alone: of a directory that `datasets` saved, and of a text file whose first rows, or
    whose only array, are longer than BEGINNING. Raises InputError for a file that is missing or cannot be read.
    """
    if is_saved(Path(path)):
        return None
    file = files_of(path)[0]
    kind = format_of(file)
    if kind == "Parquet":
        return Table(path, kind, [Part(str(file), _parquet_rows(file, count))])
    content, whole = _beginning(file)
    if whole:
        part = read_part(file)
        return Table(path, kind, [Part(part.path, part.rows[:count], part.lines)])
    if content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
        return None
    try:
        part = rows_of_text(file, kind, content.decode("utf-8-sig", errors="ignore"), count)
    except InputError:
        return None  # the row in which the beginning ends
    return Table(path, kind, [part])


def _parquet_rows(file: Path, count: int) -> list[dict[str, object]]:
    import polars as pl

    try:
        return rows_of_frame(pl.scan_parquet(file, glob=False).head(count).collect())
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{file}: not a readable Parquet file ({str(error).splitlines()[0]}).") from error


def _beginning(file: Path) -> tuple[bytes, bool]:
    """The first bytes of a file, decompressed, and whether these are all."""
    try:
        with file.open("rb") as raw:
            packed = raw.read(len(GZIP)) == GZIP
        with gzip.open(file) if packed else file.open("rb") as opened:
            content = opened.read(BEGINNING + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{file}: cannot be read ({str(error).splitlines()[0]}).") from error
    return content[:BEGINNING], len(content) <= BEGINNING
