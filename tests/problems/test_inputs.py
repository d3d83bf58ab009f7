"""Input files by format and by fault: the problems that are read, and the errors of refused files.

docs/data.md summarises this table.
"""

from __future__ import annotations

import datetime
import gzip
import io
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from extra_rl.config.sections import SourceConfig
from extra_rl.errors import InputError
from extra_rl.problems.sources import read_source

ROWS = [{"problem": "1 + 1?", "answer": "2"}, {"problem": "2 + 2?", "answer": "4"}]
PAIRS = [("1 + 1?", "2"), ("2 + 2?", "4")]
USER = [{"role": "user", "content": "1 + 1?"}]


def lines(*rows: object) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def parquet(*rows: dict[str, object], **columns: Any) -> bytes:
    out = io.BytesIO()
    (pl.DataFrame(columns) if columns else pl.DataFrame(list(rows), infer_schema_length=None)).write_parquet(out)
    return out.getvalue()


def csv(*records: str) -> bytes:
    return "\n".join(records).encode() + b"\n"


CSV = csv("problem,answer", "1 + 1?,2", "2 + 2?,4")

READ: dict[str, tuple[str, bytes, list[tuple[str, str]]]] = {
    "csv": ("a.csv", CSV, PAIRS),
    "csv, CRLF": ("a.csv", CSV.replace(b"\n", b"\r\n"), PAIRS),
    "csv, BOM": ("a.csv", b"\xef\xbb\xbf" + CSV, PAIRS),
    "csv, blank lines": ("a.csv", CSV.replace(b"\n", b"\n\n"), PAIRS),
    "csv, no line break at the end": ("a.csv", CSV.strip(), PAIRS),
    "csv, quotes, commas and line breaks": (
        "a.csv",
        csv("problem,answer", '"Is ""1, 2""\na pair?","(1, 2)"'),
        [('Is "1, 2"\na pair?', "(1, 2)")],
    ),
    "csv, numbers as written": ("a.csv", csv("problem,answer", "q,073", "r,1/2"), [("q", "073"), ("r", "1/2")]),
    "csv, index column of pandas": ("a.csv", csv(",problem,answer", "0,q,1"), [("q", "1")]),
    "csv, messages as JSON": (
        "a.csv",
        csv("prompt,answer", '"[{""role"": ""user"", ""content"": ""1 + 1?""}]",2'),
        [("1 + 1?", "2")],
    ),
    "csv, struct as JSON": (
        "a.csv",
        csv("prompt,reward_model", '1 + 1?,"{""style"": ""rule"", ""ground_truth"": ""2""}"'),
        [("1 + 1?", "2")],
    ),
    "csv, flattened struct": ("a.csv", csv("prompt,reward_model.ground_truth", "1 + 1?,2"), [("1 + 1?", "2")]),
    "csv, compressed": ("a.csv.gz", gzip.compress(CSV), PAIRS),
    "tsv": ("a.tsv", CSV.replace(b",", b"\t"), PAIRS),
    "json lines": ("a.jsonl", lines(*ROWS), PAIRS),
    "json lines, .ndjson": ("a.ndjson", lines(*ROWS), PAIRS),
    "json lines, CRLF": ("a.jsonl", lines(*ROWS).replace(b"\n", b"\r\n"), PAIRS),
    "json lines, BOM": ("a.jsonl", b"\xef\xbb\xbf" + lines(*ROWS), PAIRS),
    "json lines, blank lines": ("a.jsonl", b"\n" + lines(*ROWS).replace(b"\n", b"\n\n"), PAIRS),
    "json lines, compressed": ("a.jsonl.gz", gzip.compress(lines(*ROWS)), PAIRS),
    "json lines, called .json": ("a.json", lines(*ROWS), PAIRS),
    "json lines, a line separator in a text": (
        "a.jsonl",
        '{"problem": "a\u2028b", "answer": "1"}'.encode(),
        [("a\u2028b", "1")],
    ),
    "json lines, numbers and truth values": (
        "a.jsonl",
        lines({"problem": "q", "answer": 7}, {"problem": "r", "answer": 2.5}, {"problem": "s", "answer": True}),
        [("q", "7"), ("r", "2.5"), ("s", "true")],
    ),
    "json lines, a large and a small number": (
        "a.jsonl",
        b'{"problem": "q", "answer": 1e20}\n{"problem": "r", "answer": 1e-7}\n',
        [("q", "100000000000000000000.0"), ("r", "0.0000001")],
    ),
    "json lines, numbers and texts mixed": (
        "a.jsonl",
        lines({"problem": "q", "answer": 7}, {"problem": "r", "answer": "x + 1"}),
        [("q", "7"), ("r", "x + 1")],
    ),
    "json array": ("a.json", json.dumps(ROWS, indent=2).encode(), PAIRS),
    "json array, called .jsonl": ("a.jsonl", json.dumps(ROWS).encode(), PAIRS),
    "parquet": ("a.parquet", parquet(*ROWS), PAIRS),
    "parquet, whole numbers and a list": (
        "a.parquet",
        parquet(problem=["q", "r"], answer=[["1", "2"], ["3"]]),
        [("q", "1, 2"), ("r", "3")],
    ),
    "parquet, numbers in single precision": (
        "a.parquet",
        parquet(problem=["q", "r"], answer=pl.Series([0.1, 1e-7], dtype=pl.Float32)),
        [("q", "0.1"), ("r", "0.0000001")],
    ),
    "parquet, lists and structs of single precision": (
        "a.parquet",
        parquet(
            prompt=["q"],
            reward_model=pl.Series([{"ground_truth": [0.1]}], dtype=pl.Struct({"ground_truth": pl.List(pl.Float32)})),
        ),
        [("q", "0.1")],
    ),
    "question and answer": ("a.jsonl", lines({"question": "q", "answer": "1"}), [("q", "1")]),
    "question and final_answer": ("a.jsonl", lines({"question": "q", "final_answer": ["1"]}), [("q", "1")]),
    "problem and solution": ("a.jsonl", lines({"problem": "q", "solution": r"\boxed{1}"}), [("q", r"\boxed{1}")]),
    "problem and answer before solution": (
        "a.jsonl",
        lines({"solution": "long", "problem": "q", "answer": "1"}),
        [("q", "1")],
    ),
    "TRL, text": ("a.jsonl", lines({"prompt": "q", "solution": "1"}), [("q", "1")]),
    "TRL, messages": ("a.jsonl", lines({"prompt": USER, "answer": "2"}), [("1 + 1?", "2")]),
    "verl": (
        "a.parquet",
        parquet(
            {
                "data_source": "gsm8k",
                "prompt": USER,
                "reward_model": {"style": "rule", "ground_truth": "2"},
                "extra_info": {"index": 0, "split": "train"},
            }
        ),
        [("1 + 1?", "2")],
    ),
    "ShareGPT": (
        "a.json",
        json.dumps(
            [{"conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": "q"}], "answer": "1"}]
        ).encode(),
        [("q", "1")],
    ),
    "messages with text parts": (
        "a.jsonl",
        lines({"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}], "answer": "1"}),
        [("q", "1")],
    ),
    "an empty column of images": ("a.jsonl", lines({"problem": "q", "answer": "1", "images": []}), [("q", "1")]),
}


@pytest.mark.parametrize("name", READ)
def test_valid_files_are_read(name: str, tmp_path: Path) -> None:
    file, content, expected = READ[name]
    (tmp_path / file).write_bytes(content)
    found = read_source("mine", SourceConfig(path=str(tmp_path / file))).problems
    assert [(problem.text, problem.answer) for problem in found] == expected
    assert [problem.problem_id for problem in found] == [f"mine/{number}" for number in range(len(found))]


def row(**changed: object) -> bytes:
    return lines(ROWS[0], {**ROWS[1], **changed})


def messages(*given: object) -> bytes:
    return lines({"messages": list(given), "answer": "1"})


def said(role: str, content: object = "q") -> dict[str, object]:
    return {"role": role, "content": content}


IMAGE = {"type": "image_url", "image_url": {"url": "x.png"}}

REFUSED: dict[str, tuple[str, bytes, str]] = {
    "no file": ("", b"", "no such file of problems"),
    "an unknown suffix": ("a.xlsx", b"PK", r"expected a \.parquet, \.jsonl"),
    "an empty file": ("a.jsonl", b"", "the file is empty"),
    "white space alone": ("a.csv", b"\n \n", "the file is empty"),
    "a header alone": ("a.csv", b"problem,answer\n", "holds no rows"),
    "an empty array": ("a.json", b"[]", "holds no rows"),
    "a Git LFS pointer": ("a.parquet", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
    "a web page": ("a.jsonl", b"<!DOCTYPE html><html>", "a web page"),
    "UTF-16": ("a.csv", CSV.decode().encode("utf-16"), "UTF-16 text"),
    "Latin-1": ("a.csv", csv("problem,answer", "q,1") + "é,2\n".encode("latin-1"), "line 3 is not UTF-8"),
    "csv, a cut-off line": (
        "a.csv",
        csv("problem,answer,source", "q,1,x", "r,2"),
        "line 3 has 2 fields and the header 3",
    ),
    "csv, a comma without quotes": ("a.csv", csv("problem,answer", "a, b,1"), "line 2 has 3 fields"),
    "csv, an open quote": ("a.csv", csv("problem,answer", "q,1", '"r,2'), "begins on line 3 cannot be read"),
    "csv, a column twice": ("a.csv", csv("problem,answer,answer", "q,1,2"), "names 'answer' twice"),
    "csv, semicolons": ("a.csv", csv("problem;answer", "q;1"), "separated by ';'"),
    "csv, no header": ("a.csv", csv("What is 1 + 1?,2", "What is 2 + 2?,4"), "no columns of problems"),
    "csv, messages as Python prints them": (
        "a.csv",
        csv("prompt,answer", "\"[{'role': 'user', 'content': 'q'}]\",1"),
        r"row 0 \(line 2\).*as Python prints it",
    ),
    "json lines, a cut-off line": ("a.jsonl", lines(*ROWS)[:-10], "line 2 is not JSON, or it is cut off"),
    "json lines, a text": ("a.jsonl", lines(ROWS[0], "x"), "line 2 holds a text"),
    "json lines, a list": ("a.jsonl", lines(ROWS[0], [1]), "line 2 holds a list"),
    "json lines, a key twice": (
        "a.jsonl",
        b'{"problem": "q", "answer": "1", "answer": "2"}',
        "line 1.*'answer'.*twice",
    ),
    "json lines, half a surrogate pair": ("a.jsonl", rb'{"problem": "q\ud800", "answer": "1"}', "surrogate pair"),
    "json array, cut off": ("a.json", json.dumps(ROWS, indent=1).encode()[:-12], r"cut off .*line \d+, column"),
    "json array of numbers": ("a.json", b"[1, 2]", "row 0: holds a number"),
    "json by columns of pandas": ("a.json", b'{"problem": {"0": "q"}, "answer": {"0": "1"}}', "name one of its fields"),
    "compressed, cut off": ("a.jsonl.gz", gzip.compress(lines(*ROWS))[:-12], "damaged or cut off"),
    "not compressed": ("a.jsonl.gz", lines(*ROWS), "is not compressed"),
    "parquet, cut off": ("a.parquet", parquet(*ROWS)[:-20], "not a readable Parquet file"),
    "parquet, bytes": ("a.parquet", parquet(problem=["q"], answer=[b"1"]), "column answer holds bytes"),
    "parquet, dates": (
        "a.parquet",
        parquet(problem=["q"], answer=[datetime.date(2020, 1, 2)]),
        "column answer holds a date",
    ),
    "parquet, images in another column": (
        "a.parquet",
        parquet(problem=["q"], answer=["1"], figure=[{"bytes": b"x", "path": "x.png"}]),
        "row 0: column figure is not empty",
    ),
    "json by columns of lists": (
        "a.json",
        b'{"problem": ["q", "r"], "answer": ["1", "2"]}',
        r"row 0 \(line 1\): column problem holds a list",
    ),
    "a struct as JSON with a key twice": (
        "a.csv",
        csv("prompt,reward_model", 'q,"{""ground_truth"": ""1"", ""ground_truth"": ""2""}"'),
        "row 0 .*: column reward_model.ground_truth .*'ground_truth' occurs twice",
    ),
    "csv, blanks in the header": ("a.csv", csv("problem, answer", "q, 1"), "it has problem, ' answer'"),
    "UTF-16 without a mark": ("a.csv", CSV.decode().encode("utf-16-le"), "line 1 holds a NUL character"),
    "a zip archive": ("a.csv", b"PK\x03\x04" + bytes(30), "a zip archive"),
    "Parquet called .jsonl": ("a.jsonl", parquet(*ROWS), r"a Parquet file: name it \.parquet"),
    "unknown columns": ("a.jsonl", lines({"input": "q", "output": "1"}), r"it has input, output.*Name others"),
    "no answers": ("a.jsonl", lines({"problem": "q"}), "no columns of problems and reference answers"),
    "an image of a row": ("a.jsonl", row(image={"path": "x.png"}), r"row 1 \(line 2\): column image is not empty"),
    "null": ("a.jsonl", row(answer=None), r"1 of 2 rows have no value.*row 1 \(line 2\): answer"),
    "an empty text": ("a.jsonl", row(answer=""), "row 1 .*: answer"),
    "white space": ("a.jsonl", row(problem=" \n"), "row 1 .*: problem"),
    "NaN of JSON": ("a.jsonl", lines(ROWS[0]) + b'{"problem": "q", "answer": NaN}', "row 1 .*: answer"),
    "an absent key": ("a.jsonl", lines(ROWS[0], {"problem": "q"}), "row 1 .*: answer"),
    "NaN of pandas": ("a.parquet", parquet(problem=["q", "r"], answer=[1.0, float("nan")]), "row 1: answer"),
    "infinity": ("a.parquet", parquet(problem=["q", "r"], answer=[1.0, float("inf")]), "row 1: answer"),
    "null in a list": ("a.parquet", parquet(problem=["q", "r"], answer=[["1"], ["2", None]]), "row 1: answer"),
    "an empty list": ("a.jsonl", row(answer=[]), "row 1 .*: answer"),
    "an empty field": ("a.csv", csv("problem,answer", "q,1", "r,"), r"row 1 \(line 3\): answer"),
    "a null struct": (
        "a.jsonl",
        lines({"prompt": "q", "reward_model": {"ground_truth": "1"}}, {"prompt": "r", "reward_model": None}),
        r"row 1 .*: reward_model\.ground_truth",
    ),
    "an empty conversation": (
        "a.jsonl",
        lines({"messages": USER, "answer": "1"}, {"messages": [], "answer": "1"}),
        "row 1",
    ),
    "an image part": (
        "a.jsonl",
        messages(said("user", [IMAGE])),
        r"row 0 \(line 1\).*message 1 has a part of the type",
    ),
    "an assistant's turn at the end": (
        "a.jsonl",
        messages(said("user"), said("assistant")),
        "ends in a message of the role",
    ),
    "no user's turn": ("a.jsonl", messages(said("system")), "no user message"),
    "an unknown role": ("a.jsonl", messages(said("narrator"), said("user")), "message 1 has the role 'narrator'"),
    "a message without content": ("a.jsonl", messages(said("user", None)), "has no content"),
    "a message without a role": ("a.jsonl", messages({"content": "q"}), "neither `role` and `content`"),
    "a tool call": (
        "a.jsonl",
        messages(said("user"), {**said("assistant"), "tool_calls": [{"id": 1}]}, said("tool")),
        "message 2 .*calls tools",
    ),
    "a text among the messages": ("a.jsonl", messages(said("user"), "q"), "message 2 is a str"),
    "ShareGPT in another column": (
        "a.jsonl",
        lines({"problem": [{"from": "human", "value": "q"}], "answer": "1"}),
        "message 1 has the keys from, value: the notation of ShareGPT",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_faulty_files_are_refused(name: str, tmp_path: Path) -> None:
    file, content, message = REFUSED[name]
    path = tmp_path / (file or "absent.jsonl")
    if file:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as refused:
        read_source("mine", SourceConfig(path=str(path)))
    assert str(path) in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    "word",
    [
        *("nan", "NaN", "NAN", "None", "none", "null", "NULL", "<NA>", "N/A", "NaT", "-nan", " nan ", "", "\t"),
        *("inf", "-inf", "+Inf", "$nan$", "#N/A N/A", "1.#QNAN", "-1.#IND"),
    ],
)
def test_a_missing_value_in_any_spelling_is_left_out_with_missing_drop(word: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(csv("id,problem,answer", "a,q,1", f'b,r,"{word}"', f'c,"{word}",3', f'"{word}",s,4'))
    with pytest.raises(InputError, match="3 of 4 rows have no value"):
        read_source("mine", SourceConfig(path=str(path)))
    source = read_source("mine", SourceConfig(path=str(path), missing="drop"))
    assert [problem.problem_id for problem in source.problems] == ["mine/a"]
    assert [(found.problem.problem_id, found.column) for found in source.missing] == [
        *(("mine/b", "answer"), ("mine/c", "problem"), ("mine/row 3", "id")),
    ]


@pytest.mark.parametrize("word", [r"\text{None}", "nano", "0", "Na"])
def test_similar_words_are_answers(word: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines({"problem": "q", "answer": word}))
    (problem,) = read_source("mine", SourceConfig(path=str(tmp_path / "a.jsonl"))).problems
    assert problem.answer == word
