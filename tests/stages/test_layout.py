"""Local files of problems as inputs of `prepare`: those that exist, quoted for the shell."""

from __future__ import annotations

from pathlib import Path

from stages.experiment import experiment_of
from stages.layout import Layout, as_quoted_inputs


def test_local_sources_that_exist_are_inputs(tmp_path: Path) -> None:
    (tmp_path / "my data").mkdir()
    for name in ("my data/aime24.parquet", "train.jsonl"):
        (tmp_path / name).touch()
    task = {
        "name": "math",
        "folder": str(tmp_path),
        "train": {"path": str(tmp_path / "train.jsonl")},
        "benchmarks": {"aime24": {}, "math500": {}, "absent": {"path": str(tmp_path / "absent.parquet")}},
    }
    layout = Layout(experiment_of({"name": "x", "iterations": 1, "task": task, "arms": {"grpo": {}}}))
    assert layout.sources() == {
        "train": str(tmp_path / "train.jsonl"),
        "aime24": str(tmp_path / "my data" / "aime24.parquet"),
    }


def test_paths_are_quoted() -> None:
    assert as_quoted_inputs("source", {"a": "x.jsonl", "b": "my data/it's.jsonl"}) == (
        "source:a=x.jsonl 'source:b=my data/it'\"'\"'s.jsonl'"
    )
    assert as_quoted_inputs("source", {}) == ""


def test_a_generated_task_has_none() -> None:
    assert Layout(experiment_of({"name": "x", "iterations": 1, "arms": {"grpo": {}}})).sources() == {}
