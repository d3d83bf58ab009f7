"""Local files of problems as inputs of `prepare`: those that exist, quoted for the shell."""

from __future__ import annotations

from pathlib import Path

from stages.experiment import experiment_of
from stages.layout import Layout, by_role


def test_local_sources_that_exist_are_inputs(tmp_path: Path) -> None:
    (tmp_path / "my data").mkdir()
    (tmp_path / "parts").mkdir()
    for name in ("my data/aime24.parquet", "train.jsonl", "parts/1.csv", "parts/0.csv", "parts/README.md"):
        (tmp_path / name).touch()
    task = {
        "name": "math",
        "folder": str(tmp_path),
        "train": {"path": str(tmp_path / "train.jsonl")},
        "benchmarks": {
            "aime24": {},
            "math500": {},
            "absent": {"path": str(tmp_path / "absent.parquet")},
            "parts": {"path": str(tmp_path / "parts")},
        },
    }
    raw = {"name": "x", "iterations": 1, "task": task, "model": {"tokenizer": "bytes"}, "arms": {"grpo": {}}}
    layout = Layout(experiment_of(raw))
    assert layout.sources() == {
        "source:train": str(tmp_path / "train.jsonl"),
        "source:aime24": str(tmp_path / "my data" / "aime24.parquet"),
        "source:parts:0000": str(tmp_path / "parts" / "0.csv"),
        "source:parts:0001": str(tmp_path / "parts" / "1.csv"),
    }


def test_files_by_role_are_quoted_and_absent_ones_left_out() -> None:
    files = {"source:a": "x.jsonl", "source:b": "my data/it's.jsonl", "previous": [], "update_": ["u.parquet"]}
    assert by_role(files) == "source:a=x.jsonl 'source:b=my data/it'\"'\"'s.jsonl' update=u.parquet"
    assert by_role({}) == ""


def test_a_generated_task_has_no_local_sources() -> None:
    assert Layout(experiment_of({"name": "x", "iterations": 1, "arms": {"grpo": {}}})).sources() == {}
