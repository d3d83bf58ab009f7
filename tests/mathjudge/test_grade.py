"""The command: a table in, the same table with verdicts out."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from mathjudge.grade import main


def test_keeps_all_columns_and_adds_three(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = pl.DataFrame({
        "id": ["a", "b", "c", "d"],
        "gold": ["1/2", "1/2", "1/2", None],
        "prediction": ["0.5", r"so \boxed{\frac{2}{3}}", None, "5"],
    })  # fmt: skip
    table.write_parquet(tmp_path / "pairs.parquet")
    assert main([str(tmp_path / "pairs.parquet"), "--out", str(tmp_path / "verdicts.parquet")]) == 0
    graded = pl.read_parquet(tmp_path / "verdicts.parquet")
    assert graded.columns == ["id", "gold", "prediction", "verdict", "extracted", "rule"]
    assert graded.select(table.columns).equals(table)
    assert graded["verdict"].to_list() == ["right", "wrong", "no_answer", "gold_unparseable"]
    assert graded["extracted"].to_list() == ["0.5", r"\frac{2}{3}", None, None]
    assert "right 1" in capsys.readouterr().out


def test_responses_truncation_and_policy(tmp_path: Path) -> None:
    pl.DataFrame({
        "gold": ["2.65", "2.65"],
        "response": ["The answer is 2.66.", "The answer is 2.66."],
        "truncated": [False, True],
    }).write_ndjson(tmp_path / "pairs.jsonl")  # fmt: skip
    arguments = [str(tmp_path / "pairs.jsonl"), "--out", str(tmp_path / "out.parquet")]
    assert main([*arguments, "--policy", "{relative_tolerance: 0.01}"]) == 0
    assert pl.read_parquet(tmp_path / "out.parquet")["verdict"].to_list() == ["right", "truncated"]


@pytest.mark.parametrize(
    ("name", "policy", "message"),
    [
        ("none.parquet", "{}", "cannot be read"),
        ("pairs.txt", "{}", "unknown kind"),
        ("pairs.csv", "{}", "needs the columns"),
        ("pairs.csv", "{colour: 1}", "--policy"),
    ],
)
def test_mistakes_give_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, policy: str, message: str
) -> None:
    (tmp_path / "pairs.csv").write_text("question\n1\n")
    assert main([str(tmp_path / name), "--out", str(tmp_path / "out.parquet"), "--policy", policy]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_reference_answers_are_read_as_they_are_written(kind: str, tmp_path: Path) -> None:
    """Integers first, text a thousand rows later; numbers instead of text; a missing response."""
    pairs = [*((str(n), str(n)) for n in range(1000)), ("1/2", "0.5"), ("073", "73"), ("3", "")]
    file = tmp_path / f"pairs.{kind}"
    if kind == "csv":
        file.write_text("gold,response\n" + "\n".join(f"{gold},{response}" for gold, response in pairs))
    elif kind == "jsonl":
        rows = [f'{{"gold": {gold}, "response": {response}}}' for gold, response in pairs[:1000]]
        rows += [f'{{"gold": "{gold}", "response": "{response}"}}' for gold, response in pairs[1000:]]
        file.write_text("\n".join(rows))
    else:
        pl.DataFrame({"gold": [7, 8, 3], "response": [7.0, 9.5, None]}).write_parquet(file)
    assert main([str(file), "--out", str(tmp_path / "out.parquet")]) == 0
    verdicts = pl.read_parquet(tmp_path / "out.parquet")["verdict"].to_list()
    assert verdicts[-3:] == (["right", "wrong", "no_answer"] if kind == "parquet" else ["right", "right", "no_answer"])
    assert set(verdicts[:-3]) <= {"right"}


def test_nested_reference_answers_are_one_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pl.DataFrame({"gold": [["7"]], "response": ["7"]}).write_parquet(tmp_path / "pairs.parquet")
    assert main([str(tmp_path / "pairs.parquet"), "--out", str(tmp_path / "out.parquet")]) == 2
    assert "column gold contains List(String)" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_refused_before_judging(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pl.DataFrame({"gold": ["7"], "response": ["7"]}).write_parquet(tmp_path / "pairs.parquet")
    assert main([str(tmp_path / "pairs.parquet"), "--out", str(tmp_path / "new" / "out.parquet")]) == 0
    assert main([str(tmp_path / "pairs.parquet"), "--out", str(tmp_path / "pairs.parquet" / "out.parquet")]) == 2
    assert "cannot be written to" in capsys.readouterr().err
