"""Folders, patterns, saved data sets, and the first rows of a file: where problems are read from."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from extra_rl.config.sections import SourceConfig
from extra_rl.errors import InputError
from extra_rl.problems.first_rows import first_rows
from extra_rl.problems.sources import read_source
from tests.problems.test_inputs import CSV, PAIRS, ROWS, USER, parquet


def test_a_folder_a_pattern_and_their_rows(tmp_path: Path) -> None:
    for number, part in enumerate((ROWS[:1], ROWS[1:])):
        (tmp_path / f"part-{number}.parquet").write_bytes(parquet(*part))
    (tmp_path / "README.md").write_text("about")
    for path in (tmp_path, tmp_path / "part-*.parquet"):
        source = read_source("mine", SourceConfig(path=str(path)))
        assert [(problem.text, problem.answer) for problem in source.problems] == PAIRS
        assert source.format == "Parquet (2 files)"
        assert source.problems[1].place == f"{tmp_path / 'part-1.parquet'}, row 0"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "no data file there"),
        (["a.csv", "b.jsonl"], r"several formats \(CSV, JSON lines\)"),
        (["train-0.csv", "test-0.csv"], r"several splits \(test, train\)"),
        (["train.csv", "validation.csv"], "several splits"),
    ],
)
def test_an_ambiguous_folder_is_refused(files: list[str], message: str, tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).write_bytes(CSV)
    with pytest.raises(InputError, match=message):
        read_source("mine", SourceConfig(path=str(tmp_path)))


def test_a_directory_that_datasets_saved(tmp_path: Path) -> None:
    import datasets

    one = datasets.Dataset.from_list([{"prompt": USER, "answer": "2"}])
    one.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"train": one, "test": one}).save_to_disk(str(tmp_path / "two"))
    for keys in ({"path": str(tmp_path / "one")}, {"dataset": str(tmp_path / "one")}):
        (problem,) = read_source("mine", SourceConfig(**keys)).problems
        assert (problem.text, problem.answer) == ("1 + 1?", "2")
    assert len(read_source("mine", SourceConfig(path=str(tmp_path / "two"), split="test")).problems) == 1
    with pytest.raises(InputError, match="has no split dev; it has train, test"):
        read_source("mine", SourceConfig(path=str(tmp_path / "two"), split="dev"))
    next((tmp_path / "one").glob("*.arrow")).write_bytes(b"")
    with pytest.raises(InputError, match="not a readable directory of the library datasets"):
        read_source("mine", SourceConfig(path=str(tmp_path / "one")))


def test_first_rows_are_those_of_the_whole_file(tmp_path: Path) -> None:
    rows = [{"problem": f"line\n{n}", "answer": str(n)} for n in range(50)]
    pl.DataFrame(rows).write_parquet(tmp_path / "p.parquet")
    pl.DataFrame(rows).write_ndjson(tmp_path / "p.jsonl")
    pl.DataFrame(rows).write_csv(tmp_path / "p.csv")
    (tmp_path / "p.json").write_text(json.dumps(rows))
    (tmp_path / "p.jsonl.gz").write_bytes(gzip.compress((tmp_path / "p.jsonl").read_bytes()))
    for name in ("p.parquet", "p.jsonl", "p.csv", "p.jsonl.gz"):
        table = first_rows(str(tmp_path / name), 3)
        assert table is not None
        assert table.rows == rows[:3], name
    array = first_rows(str(tmp_path / "p.json"), 3)
    assert array is not None
    assert array.rows == rows[:3]
    (tmp_path / "latin.csv").write_bytes("problem,answer\né,1\n".encode("latin-1"))
    with pytest.raises(InputError, match="line 2 is not UTF-8"):
        first_rows(str(tmp_path / "latin.csv"), 3)


def test_the_first_rows_of_a_large_file_do_not_depend_on_where_its_beginning_ends(tmp_path: Path) -> None:
    """The beginning ends within a character, a quoted line break and a row."""
    row = '"' + "é\n" * 400 + '",7\n'
    (tmp_path / "p.csv").write_text("problem,answer\n" + row * 2000)
    table = first_rows(str(tmp_path / "p.csv"), 3)
    assert table is not None
    assert [part["answer"] for part in table.rows] == ["7"] * 3
    assert first_rows(str(tmp_path / "p.csv"), 10**6) is None
    (tmp_path / "p.json").write_text("[" + '{"problem": "1", "answer": "1"},' * 60_000 + "{}]")
    assert first_rows(str(tmp_path / "p.json"), 3) is None
