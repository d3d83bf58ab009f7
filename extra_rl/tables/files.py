"""Read and write tables: checked against their contracts, written atomically, with provenance in the footer."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dataframely as dy
import polars as pl
import pyarrow.parquet as pq

from extra_rl.errors import ContractError, InputError, disk_fault
from extra_rl.tables.checksum import DIGEST_KEY, FOOTER_KEY, parquet_bytes, require_undamaged

TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}\.tmp|\.tmp[A-Za-z0-9]{6}")
"""Names of files that their writers rename when they are whole: `write_whole`, and safetensors (second form)."""

ROWS_SHOWN = 3
"""Number of offending rows that a contract error prints."""

ITEMS_SHOWN = 8
"""Number of items that it prints of a list, which may have thousands."""


def write_table(frame: pl.DataFrame, path: Path, contract: type[dy.Schema], provenance: Mapping[str, Any]) -> None:
    """Check `frame` against `contract` and write it to `path` with `provenance` and its digest in the footer.

    The bytes depend on the content and the provenance only (zstd Parquet, one writer, no time stamps).

    Args:
        frame: the table; further columns are dropped.
        path: of the Parquet file; its folder is created.
        contract: schema with the rules of the table.
        provenance: JSON value; it must follow from the stage's inputs and configuration.
    Raises ContractError where the frame violates the contract; nothing is written then.
    """
    frame = check(frame, contract, path)
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    metadata = {**(table.schema.metadata or {}), FOOTER_KEY: canonical_json(provenance).encode()}
    data = parquet_bytes(table.replace_schema_metadata(metadata))
    write_whole(path, lambda tmp: tmp.write_bytes(data))


def read_table(path: Path, contract: type[dy.Schema]) -> pl.DataFrame:
    """The table at `path`, checked against `contract`.

    Raises InputError where the file is missing, damaged or not Parquet, ContractError where it violates the contract.
    """
    try:
        require_undamaged(path)
        frame = pl.read_parquet(path, glob=False)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file. Run the stage that writes it, or check the path.") from None
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{path}: not a readable Parquet file ({error}). Delete it and run again.") from error
    return check(frame, contract, path)


def read_provenance(path: Path) -> dict[str, Any]:
    """The provenance in the footer of a table; {} for a Parquet file that no stage wrote."""
    return read_footer(path)[0]


def read_digest(path: Path) -> str | None:
    """The digest that the footer of a table holds; None for a file that `write_table` did not write."""
    return read_footer(path)[1]


def read_footer(path: Path) -> tuple[dict[str, Any], str | None]:
    """Provenance and digest of a table, as `read_provenance` and `read_digest` return them; no row is read."""
    metadata = pq.read_metadata(path).metadata or {}
    provenance = json.loads(metadata.get(FOOTER_KEY, b"{}"))
    assert isinstance(provenance, dict)
    digest = metadata.get(DIGEST_KEY)
    return provenance, digest.decode("ascii", errors="replace") if digest else None


def check(frame: pl.DataFrame, contract: type[dy.Schema], path: Path) -> pl.DataFrame:
    """`frame` with the contract's columns in order.

    Raises ContractError with file, column, rule and the first offending rows. path: named in the error.
    """
    expected = contract.columns()
    missing = [name for name in expected if name not in frame.columns]
    if missing:
        raise ContractError(f"{path}: table {contract.__name__} has no column(s) {', '.join(missing)}.")
    for name, column in expected.items():
        if not column.validate_dtype(frame.schema[name]):
            raise ContractError(
                f"{path}: column {name} of table {contract.__name__} has type {frame.schema[name]}, "
                f"the contract requires {column.dtype}."
            )
    frame = frame.select(list(expected))
    if frame.is_empty():
        return frame  # rules are about rows; evaluating them takes 8 ms, which empty iterations would spend 50 times
    good, failures = contract.filter(frame)
    if len(good) == len(frame):
        return frame
    lines = []
    invalid = failures.details()
    for rule, count in sorted(failures.counts().items()):
        rows = invalid.filter(pl.col(rule) == "invalid").select(_columns_of(rule, contract)).head(ROWS_SHOWN)
        lines.append(f"  {_describe(rule)}: {count} row(s), first {[_shortened(row) for row in rows.to_dicts()]}")
    raise ContractError(f"{path}: table {contract.__name__} breaks its contract:\n" + "\n".join(lines))


def _shortened(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with long lists cut off after ITEMS_SHOWN items."""
    return {
        name: [*value[:ITEMS_SHOWN], "..."] if isinstance(value, list) and len(value) > ITEMS_SHOWN else value
        for name, value in row.items()
    }


def _describe(rule: str) -> str:
    """A rule for messages; dataframely names the rules of a column `column|rule`."""
    column, _, name = rule.rpartition("|")
    return f"column {column}, rule {name}" if column else f"rule {name}"


def _columns_of(rule: str, contract: type[dy.Schema]) -> list[str]:
    """The columns that identify an offending row: the key, and the column that the rule is about."""
    column = rule.rpartition("|")[0]
    keys = contract.primary_key()
    return [*keys, *([column] if column and column not in keys else [])]


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` with a temporary path in the same folder, then rename it, so a reader never sees half a file.

    Raises InputError where the file cannot be written; the temporary file is removed.
    """
    tmp = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(tmp)
            with open(tmp, "rb") as handle:
                os.fsync(handle.fileno())
            os.replace(tmp, path)
        finally:
            tmp.unlink(missing_ok=True)
    except OSError as error:
        fault = disk_fault(error, path)
        if fault is None:
            raise
        raise fault from error


@contextmanager
def whole_folder(folder: Path, require_free: Callable[[], None]) -> Iterator[Path]:
    """Yield a temporary neighbour that gets the name of `folder` once it is whole; what `folder` held is removed then.

    require_free: raises where `folder` must not be replaced; called before the replacement. Raises InputError where
    the disk is full or cannot be written. After an error `folder` is as it was, and the neighbour is removed.
    """
    token = secrets.token_hex(6)
    made, old = (folder.with_name(f".{folder.name}.{what}{token}.tmp") for what in ("", "old-"))
    try:
        made.mkdir(parents=True)
        yield made
        require_free()
        if folder.exists():
            os.replace(folder, old)
        os.replace(made, folder)
    except OSError as error:
        fault = disk_fault(error, folder)
        if fault is None:
            raise
        raise fault from error
    finally:
        if old.is_dir() and not folder.exists():
            os.replace(old, folder)
        shutil.rmtree(made, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def remove_temporary(folder: Path) -> list[Path]:
    """Remove the temporary files below a folder that writers left when they were killed; return them.

    Call it where nothing writes into the folder: holding a run's lock, before its first job.
    """
    found = temporary_files(folder)
    for path in found:
        path.unlink(missing_ok=True)
    return found


def temporary_files(folder: Path) -> list[Path]:
    """The files below a folder with names of the kind TEMPORARY, sorted; their writers may still be at work."""
    return sorted(path for path in folder.rglob(".*") if TEMPORARY.fullmatch(path.name) and not path.is_dir())


def canonical_json(value: object) -> str:
    """JSON with sorted keys and without spaces: equal values have equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
