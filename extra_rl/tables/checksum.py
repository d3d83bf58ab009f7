"""The digest that a table carries: a SHA-256 over every byte of its Parquet file, kept in the file's own footer.

The file is hashed with 64 zeros where the digest stands; then the digest takes their place. So one value covers pages,
statistics, schema and provenance, where Parquet's page checksums (CRC-32) cover the pages alone and polars does not
compare them. It is also the table's identity in the footers of what was made from it: a whole run can be checked from
its footers (`extra_rl.run.integrity`). Source: our decision (docs/decisions/0020-files-are-known-by-content.md).
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from extra_rl.errors import InputError

FOOTER_KEY = b"extra_rl"
"""Key of a table's provenance in the metadata of the Parquet footer."""

DIGEST_KEY = b"extra_rl_sha256"
"""Key of its digest, in the same place."""

ZEROS = b"0" * 64
"""What is hashed instead of the digest's hex digits."""

FIELD = DIGEST_KEY + b"\x18\x40"
"""How the footer (Thrift's compact protocol) announces the digest: its key, then a string of 64 bytes."""

MAGIC = b"PAR1"


def parquet_bytes(table: pa.Table) -> bytes:
    """Return `table` as a Parquet file (zstd) with its digest in the footer. Equal tables give equal bytes."""
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, table.schema, compression="zstd") as writer:
        writer.write_table(table)
        # after the rows, so that it is no part of the Arrow schema, which the footer repeats in base64
        writer.add_key_value_metadata({DIGEST_KEY: ZEROS})
    data = sink.getvalue()
    place = _place(data)
    assert place is not None
    return data[:place] + hashlib.sha256(data).hexdigest().encode() + data[place + len(ZEROS) :]


def require_undamaged(path: Path) -> None:
    """Compare a table with the digest in its footer; a Parquet file without one passes.

    Reads and hashes the file once, at about a second for a gigabyte. Raises InputError for a file that is cut off or
    has changed since it was written, FileNotFoundError for one that is missing.
    """
    data = path.read_bytes()
    if len(data) < 3 * len(MAGIC) or data[: len(MAGIC)] != MAGIC or data[-len(MAGIC) :] != MAGIC:
        raise InputError(
            f"{path}: not a readable Parquet file (it has {len(data):,} bytes, and does not begin and end as one). It "
            f"is cut off, or something else. {HOW_TO_MEND}"
        )
    place = _place(data)
    if place is None:
        _require_plain(path, data)
        return
    end = place + len(ZEROS)
    view = memoryview(data)
    found = hashlib.sha256(view[:place])
    found.update(ZEROS)
    found.update(view[end:])
    if found.hexdigest().encode() != data[place:end]:
        recorded = data[place : place + 16].decode("ascii", "replace")
        raise InputError(
            f"{path}: not a readable Parquet file any more: its bytes have changed since it was written (SHA-256 "
            f"{found.hexdigest()[:16]}..., {recorded}... in its footer). The disk, a copy or an edit has damaged it. "
            f"{HOW_TO_MEND}"
        )


def _require_plain(path: Path, data: bytes) -> None:
    """InputError for a file without a digest whose footer cannot be read, or has a key that nobody writes: it had a
    digest, and the damage hit the digest's own key."""
    try:
        keys = set(pq.read_metadata(io.BytesIO(data)).metadata or {})
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(
            f"{path}: not a readable Parquet file ({' '.join(str(error).split())}). {HOW_TO_MEND}"
        ) from error
    foreign = keys - {FOOTER_KEY, b"ARROW:schema"}
    if FOOTER_KEY in keys and foreign:
        raise InputError(
            f"{path}: not a readable Parquet file any more: its footer has the key {sorted(foreign)[0]!r} instead of "
            f"{DIGEST_KEY!r}. {HOW_TO_MEND}"
        )


HOW_TO_MEND = "Delete it and run again; `extra check RESULTS` prints the command that makes it again."


def _place(data: bytes) -> int | None:
    """Where the hex digits of the digest begin; None for a file without one.

    Searched in the footer only, whose length stands before the last four bytes: rows may hold any text.
    """
    footer_bytes = int.from_bytes(data[-8:-4], "little")
    start = max(0, len(data) - 8 - footer_bytes)
    found = data.rfind(FIELD, start)
    return found + len(FIELD) if found >= 0 else None
