"""extra check-answers: reference answers that no response can match."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from extra_cli.main import main

PROBLEMS = {"id": ["a", "b", "c"], "problem": ["x", "y", "z"], "answer": ["7", r"\frac{1}{", None]}


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv"])
def test_bad_answers_are_listed_and_written(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, table = tmp_path / f"problems.{kind}", pl.DataFrame(PROBLEMS)
    {"parquet": table.write_parquet, "jsonl": table.write_ndjson, "csv": table.write_csv}[kind](file)
    assert main(["check-answers", str(file), "--out", str(tmp_path / "bad.parquet")]) == 1
    first, second, summary = capsys.readouterr().out.splitlines()
    assert first.startswith("b  `\\frac{1}{`  unbalanced: ")
    assert second.startswith("c  ``  empty: ")
    assert summary.startswith("2 of 3 ")
    assert pl.read_parquet(tmp_path / "bad.parquet").rows() == [
        ("b", r"\frac{1}{", "y", "unbalanced"),
        ("c", "", "z", "empty"),
    ]


def test_other_columns_and_rows_without_an_id(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "problems.parquet"
    pl.DataFrame({"solution": [7, 8], "gold": ["", "5"], "key": ["p", "q"]}).write_parquet(file)
    assert main(["check-answers", str(file)]) == 1
    assert capsys.readouterr().out.startswith("0  ``  empty")
    assert main(["check-answers", str(file), "--id", "key"]) == 1
    assert capsys.readouterr().out.startswith("p  ``  empty")
    assert main(["check-answers", str(file), "--answer", "solution"]) == 0
    assert capsys.readouterr().out.startswith("0 of 2 ")


def test_a_known_name_is_read_as_the_configuration_reads_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = {"id": [f"{n}" for n in range(30)], "problem": ["x"] * 30, "answer": [*map(str, range(29)), "{"]}
    pl.DataFrame(rows).write_parquet(tmp_path / "aime24.parquet")
    assert main(["check-answers", "aime24", "--folder", str(tmp_path)]) == 1
    assert capsys.readouterr().out.startswith("aime24/29  `{`  unbalanced")
    pl.DataFrame(rows).head(29).write_parquet(tmp_path / "aime24.parquet")
    assert main(["check-answers", "aime24", "--folder", str(tmp_path)]) == 2
    assert "aime24 should have 30 rows, it has 29" in capsys.readouterr().err
    assert main(["check-answers", "aime24", "--folder", str(tmp_path / "none")]) == 2
    assert "task.folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("verl.jsonl", {"prompt": [{"role": "user", "content": "x"}], "reward_model": {"ground_truth": "{"}}),
        ("sharegpt.json", {"conversations": [{"from": "human", "value": "x"}], "ground_truth": "{"}),
        ("trl.jsonl.gz", {"prompt": "x", "solution": "{"}),
        ("question.tsv", {"question": "x", "final_answer": "{"}),
    ],
)
def test_every_format_and_layout_is_read(
    name: str, row: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "\t".join(row) + "\n" + "\t".join(row.values()) if name.endswith("tsv") else json.dumps(row)
    content = gzip.compress(text.encode()) if name.endswith("gz") else text.encode()
    (tmp_path / name).write_bytes(content)
    out = tmp_path / "bad.parquet"
    assert main(["check-answers", str(tmp_path / name), "--out", str(out)]) == 1
    assert capsys.readouterr().out.startswith("0  `{`  unbalanced")
    (found,) = pl.read_parquet(out).to_dicts()
    assert (found["id"], found["gold"], found["reason"]) == ("0", "{", "unbalanced")
    assert found["problem"] == "x" or json.loads(found["problem"]) == next(iter(row.values()))


def test_a_folder_and_a_word_for_no_value(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.csv").write_text("problem,answer\nx,7\n")
    (tmp_path / "b.csv").write_text("problem,answer\ny,nan\n")
    assert main(["check-answers", str(tmp_path)]) == 1
    assert capsys.readouterr().out.startswith("1  ``  empty")


def test_numbers_and_text_in_one_column_are_read_as_text(tmp_path: Path) -> None:
    """Numbers first, text a thousand rows later: a reader that guesses types from the first rows would fail."""
    references = [*map(str, range(2000)), "1/2"]
    (tmp_path / "golds.csv").write_text("gold\n" + "\n".join(references))
    (tmp_path / "golds.jsonl").write_text("\n".join([f'{{"gold": {n}}}' for n in range(2000)] + ['{"gold": "1/2"}']))
    assert main(["check-answers", str(tmp_path / "golds.csv")]) == 0
    assert main(["check-answers", str(tmp_path / "golds.jsonl")]) == 0


def test_unprintable_characters_are_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pl.DataFrame({"gold": ["{\x1b[31m数" + "x" * 200]}).write_parquet(tmp_path / "golds.parquet")
    assert main(["check-answers", str(tmp_path / "golds.parquet")]) == 1
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith("0  `{\\x1b[31m数xxx")
    assert "xxx...`  unbalanced" in line
    assert len(line) < 150


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.parquet"], "nowhere.parquet: no such file"),
        (["{data}", "--answer", "key"], "no column 'key'; the columns are gold."),
        (["{data}", "--id", "key"], "no column 'key'"),
        (["{data}", "--problem", "key"], "no column 'key'"),
        (["{data}", "--workers", "0"], "verifier.workers"),
        (["{data}", "--policy", "{no: 1}"], "--policy"),
    ],
)
def test_a_mistake_is_one_message(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pl.DataFrame({"gold": ["7"]}).write_parquet(tmp_path / "golds.parquet")
    words = [word.replace("{data}", str(tmp_path / "golds.parquet")) for word in arguments]
    assert main(["check-answers", *words]) == 2
    assert message in capsys.readouterr().err
