"""Files of tables: atomic writes, equal bytes for equal content, provenance in the footer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest

from extra_rl.errors import ContractError, InputError
from extra_rl.tables import contracts
from extra_rl.tables.files import (
    canonical_json,
    file_digest,
    read_provenance,
    read_table,
    remove_temporary,
    write_table,
    write_whole,
)
from tests.stages.rows import group, tables_of

FRAME = tables_of(group("rwe"))["verify_generate"]
PROVENANCE = {"name": "extra/s0/i0/verify_generate", "job": {"seed": 0, "config": {"gold": "own"}}}


def write(path: Path, table: pl.DataFrame = FRAME, provenance: dict[str, Any] = PROVENANCE) -> Path:
    write_table(table, path, contracts.Verdicts, provenance)
    return path


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = write(tmp_path / "new" / "folder" / "verify.parquet")
    table = read_table(path, contracts.Verdicts)
    assert table.equals(FRAME)
    assert table.schema == FRAME.schema
    assert table["reward"].to_list() == [1.0, 0.0, None]


def test_an_empty_table_keeps_its_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "verify.parquet", contracts.Verdicts.create_empty())
    assert read_table(path, contracts.Verdicts).schema == FRAME.schema


def test_provenance_is_read_from_the_footer(tmp_path: Path) -> None:
    assert read_provenance(write(tmp_path / "verify.parquet")) == PROVENANCE
    foreign = tmp_path / "foreign.parquet"
    FRAME.write_parquet(foreign)
    assert read_provenance(foreign) == {}
    assert read_table(foreign, contracts.Verdicts).equals(FRAME)


def test_equal_content_has_equal_bytes_and_other_provenance_has_others(tmp_path: Path) -> None:
    first = write(tmp_path / "a.parquet")
    rechunked = pl.concat([FRAME.head(1), FRAME.tail(2)], rechunk=False)
    reordered = {key: PROVENANCE[key] for key in reversed(PROVENANCE)}
    second = write(tmp_path / "b.parquet", rechunked.select(reversed(FRAME.columns)), reordered)
    assert first.read_bytes() == second.read_bytes()
    assert file_digest(first) == file_digest(second)
    other = write(tmp_path / "c.parquet", provenance={"name": "grpo/s0/i0/verify_generate"})
    assert file_digest(other) != file_digest(first)


def test_tables_are_compressed_with_zstd(tmp_path: Path) -> None:
    column = pq.ParquetFile(write(tmp_path / "verify.parquet")).metadata.row_group(0).column(0)
    assert column.compression == "ZSTD"


def test_a_frame_that_breaks_its_contract_leaves_the_previous_file_only(tmp_path: Path) -> None:
    path = write(tmp_path / "verify.parquet")
    before = path.read_bytes()
    with pytest.raises(ContractError, match=str(path)):
        write(path, pl.concat([FRAME, FRAME]))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("overwrites", [False, True])
def test_a_failed_write_leaves_no_partial_file(tmp_path: Path, overwrites: bool) -> None:
    path = tmp_path / "table.parquet"
    if overwrites:
        path.write_text("previous")

    def fails(tmp: Path) -> None:
        tmp.write_text("half of the")
        assert tmp.parent == path.parent
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"):
        write_whole(path, fails)
    assert [p.name for p in tmp_path.iterdir()] == (["table.parquet"] if overwrites else [])
    assert not overwrites or path.read_text() == "previous"


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "extra" / "s0"
    written: list[Path] = []

    def write_there(tmp: Path) -> None:
        written.append(tmp)
        tmp.touch()

    write_whole(folder / "table.parquet", write_there)
    kept = ["table.parquet", ".table.parquet.aside-20261126T204804", "notes.tmp", ".checked.json"]
    written.append(folder / ".tmp8a6ZDQ")  # as safetensors names it
    for path in (*written, *(folder / name for name in kept)):
        path.touch()
    assert remove_temporary(tmp_path) == sorted(written)
    assert sorted(path.name for path in folder.iterdir()) == sorted(kept)


def test_a_file_appears_only_when_it_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.parquet"
    seen: list[bool] = []

    def replace(source: Path, target: Path) -> None:
        seen.append(path.exists())
        os.rename(source, target)

    monkeypatch.setattr("extra_rl.tables.files.os.replace", replace)
    write(path)
    assert seen == [False]
    assert read_table(path, contracts.Verdicts).equals(FRAME)


def test_a_file_that_is_missing_or_not_parquet_is_an_input_error(tmp_path: Path) -> None:
    path = tmp_path / "verify.parquet"
    with pytest.raises(InputError, match=r"verify\.parquet: no such file"):
        read_table(path, contracts.Verdicts)
    path.write_bytes(b"PAR1 but not really")
    with pytest.raises(InputError, match=r"verify\.parquet.*Delete"):
        read_table(path, contracts.Verdicts)
    write(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"verify\.parquet"):
        read_table(path, contracts.Verdicts)


def test_a_table_of_another_contract_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "verify.parquet")
    with pytest.raises(ContractError, match=r"verify\.parquet: table Novelty .* novelty"):
        read_table(path, contracts.Novelty)


def test_a_path_with_brackets_is_not_a_glob_pattern(tmp_path: Path) -> None:
    path = write(tmp_path / "run[1]*" / "verify.parquet")
    assert read_table(path, contracts.Verdicts).equals(FRAME)


def test_canonical_json_is_equal_text_for_equal_values() -> None:
    assert canonical_json({"b": [1, None], "a": "ä"}) == '{"a":"\\u00e4","b":[1,null]}'
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json({"a": float("nan")})
