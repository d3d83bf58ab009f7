"""A table's digest: every change of a byte is noticed, and equal tables stay equal files."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from extra_rl.errors import InputError
from extra_rl.tables import contracts, read_table, write_table
from extra_rl.tables.checksum import DIGEST_KEY, require_undamaged
from extra_rl.tables.files import file_digest, read_digest
from tests.run.small_run import TABLE


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "verify.parquet"
    write_table(TABLE, path, contracts.Verdicts, {"name": "extra/s0/i0/verify_generate", "note": DIGEST_KEY.decode()})
    return path


def test_a_table_is_read_with_its_digest_by_us_and_by_others(table: Path) -> None:
    require_undamaged(table)
    assert read_table(table, contracts.Verdicts).equals(TABLE)
    assert pq.read_table(table).num_rows == len(TABLE)
    assert len(read_digest(table) or "") == 64
    assert read_digest(table) != file_digest(table)  # it is over the file with zeros in its own place


def test_the_digest_depends_on_rows_and_provenance(table: Path, tmp_path: Path) -> None:
    other, named = tmp_path / "other.parquet", tmp_path / "named.parquet"
    write_table(TABLE.head(2), other, contracts.Verdicts, {"name": "a"})
    write_table(TABLE, named, contracts.Verdicts, {"name": "b"})
    assert len({read_digest(path) for path in (table, other, named)}) == 3


def test_no_flipped_bit_is_read_as_another_value(table: Path) -> None:
    """Every bit of the footer's end with the digest, and many of the rest."""
    data = table.read_bytes()
    places = [*range(len(data) - 200, len(data)), *random.Random(0).choices(range(len(data)), k=1300)]
    unnoticed = []
    for byte in places:
        damaged = bytearray(data)
        damaged[byte] ^= 1 << (byte % 8)
        table.write_bytes(damaged)
        try:
            require_undamaged(table)
        except InputError:
            continue
        unnoticed.append(byte)
    assert unnoticed == []


@pytest.mark.parametrize("kept", [0, 7, 0.5, -1])
def test_a_table_that_is_cut_off_is_refused(table: Path, kept: float) -> None:
    data = table.read_bytes()
    table.write_bytes(data[: int(kept * len(data)) if kept == 0.5 else int(kept)])
    with pytest.raises(InputError, match=r"verify\.parquet: not a readable Parquet file .*`extra check"):
        read_table(table, contracts.Verdicts)


def test_bytes_that_follow_the_file_are_refused(table: Path) -> None:
    table.write_bytes(table.read_bytes() + b"PAR1")
    with pytest.raises(InputError, match="not a readable Parquet file"):
        read_table(table, contracts.Verdicts)


def test_a_parquet_file_of_another_tool_passes(tmp_path: Path) -> None:
    path = tmp_path / "plain.parquet"
    TABLE.write_parquet(path)
    require_undamaged(path)
    assert read_digest(path) is None
