"""extra data: what is printed of a file, and the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from extra_cli.main import main

ROWS = [
    {"question": "What is 1 + 1?", "answer": "2", "level": "1"},
    {"question": "What is 2 + 2 in this long question?", "answer": "4"},
    {"question": "what is 1+1", "answer": "2"},
    {"question": "What is 4 + 4?", "answer": r"\frac{1}{"},
    {"question": "What is the capital?", "answer": "Paris"},
    {"question": "What is 5 + 5?", "answer": None},
]


def written(folder: Path, rows: list[dict[str, object]], name: str = "mine.jsonl") -> str:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder / name)


def test_everything_that_prepare_would_stumble_on_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, [dict(row) for row in ROWS])
    assert main(["data", path]) == 1
    printed = capsys.readouterr().out
    for part in (
        "format       JSON lines, layout: question and answer",
        "problem      question\nanswer       answer\nid           row numbers\nnot read     level",
        "rows         6, of which 5 are problems",
        f"missing      1 rows without a value\n             {path}, row 5 (line 6): answer",
        f"--- {path}, row 2 (line 3): ",
        "<|im_start|>user\nWhat is 2 + 2 in this long question?<|im_end|>",
        "duplicates   1 rows repeat another, 0 have contradictory reference answers",
        "unmatched    1 reference answers do not match themselves",
        "its braces or brackets do not close",
        "prose        1 reference answers are words or code and not mathematics",
        f"             {path}, row 4 (line 5): 'Paris'",
        "overlap      not compared: name benchmarks with --folder",
    ):
        assert part in printed


def test_a_file_without_any_problem_is_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, [{"prompt": "q", "answer": None, "ground_truth": "1"}])
    assert main(["data", path]) == 1
    printed = capsys.readouterr().out
    assert "rows         1, of which 0 are problems" in printed
    assert f"{path}, row 0 (line 1): answer" in printed


def test_a_file_without_a_fault_and_one_that_overlaps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = written(tmp_path, [dict(row) for row in ROWS[:2]], "good.jsonl")
    assert main(["data", good]) == 0
    bench = [{"id": str(n), "problem": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(30)]
    (tmp_path / "b").mkdir()
    written(tmp_path / "b", bench, "aime24.jsonl")  # type: ignore[arg-type]
    assert main(["data", good, "--folder", str(tmp_path / "b")]) == 1
    assert "overlap      1 rows overlap aime24 (equal 1)" in capsys.readouterr().out


def test_conversations_and_the_settings_of_a_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    turns = [{"from": "system", "value": "s"}, {"from": "human", "value": "q?"}]
    path = written(tmp_path, [{"conversations": turns, "answer": "1"}])
    (tmp_path / "c.yaml").write_text("task: {name: math, suffix: ' Box it.'}\n")
    assert main(["data", path, "--config", str(tmp_path / "c.yaml")]) == 0
    printed = capsys.readouterr().out
    assert "layout: ShareGPT\nproblem      conversations (conversations: 1 system, 1 user messages)" in printed
    assert "<|im_start|>user\nq? Box it.<|im_end|>" in printed


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([{"a": "q", "b": "1"}], [], "no columns of problems and reference answers"),
        ([{"a": "q", "b": "1"}], ["--problem", "a", "--answer", "c"], "no column c"),
        ([{"problem": "q", "answer": "1"}], ["--folder", "absent"], "--folder"),
        ([{"problem": "q", "answer": "1"}], ["--limit", "0"], "limit"),
    ],
)
def test_what_cannot_be_read_is_one_message(
    rows: list[dict[str, object]],
    options: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["data", written(tmp_path, rows), *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("extra data: ")
    assert message in error


def test_columns_may_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, [{"a": "q", "b": "1", "c": "x"}])
    assert main(["data", path, "--problem", "a", "--answer", "b", "--id", "c"]) == 0
    assert "layout: named\nproblem      a\nanswer       b\nid           c\n" in capsys.readouterr().out
