"""Names of known problem sets are replaced by complete sources in the section."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from extra_rl.config.benchmarks import PAPER_BENCHMARKS, registry
from extra_rl.config.sections import SourceConfig, TaskConfig


def test_the_registry_is_complete() -> None:
    counts = {"aime24": 30, "aime25": 30, "amc23": 40, "math500": 500, "minerva": 272, "olympiadbench": 675}
    assert tuple(counts) == PAPER_BENCHMARKS
    assert {name: entry["rows"] for name, entry in registry("benchmarks").items()} == counts | {"gsm8k": 1319}
    assert list(registry("training")) == ["dapo_math_17k", "math_12k", "gsm8k_train"]
    for entry in [*registry("benchmarks").values(), *registry("training").values()]:
        assert {"about", "licence", "rows", "files", "hub"} <= set(entry)
        SourceConfig(**entry["hub"], **entry.get("common", {}))


def test_a_list_of_names() -> None:
    task = TaskConfig(benchmarks=["math500", "minerva"], train="gsm8k_train")
    assert list(task.benchmarks) == ["math500", "minerva"]
    assert task.benchmarks["math500"].dataset == "HuggingFaceH4/MATH-500"
    assert task.benchmarks["math500"].rows == 500
    assert task.benchmarks["minerva"].relative_tolerance == 0.01
    train = task.train["gsm8k_train"]
    assert (train.dataset, train.subset, train.split, train.id) == ("openai/gsm8k", "main", "train", None)


def test_complete_sources_stay_unchanged(tmp_path: Path) -> None:
    (tmp_path / "minerva.jsonl").touch()
    task = TaskConfig(folder=str(tmp_path), benchmarks=["minerva", "aime24"], train={"path": "own.parquet"})
    again = TaskConfig(**task.model_dump())
    assert again == task
    (tmp_path / "minerva.jsonl").unlink()
    (tmp_path / "aime24.parquet").touch()
    assert TaskConfig(**task.model_dump()) == task


def test_a_partial_source_is_completed_and_its_keys_take_precedence() -> None:
    task = TaskConfig(benchmarks={"minerva": {"limit": 5, "relative_tolerance": 0.05}, "aime24": None})
    assert task.benchmarks["minerva"].dataset == "math-ai/minervamath"
    assert (task.benchmarks["minerva"].limit, task.benchmarks["minerva"].relative_tolerance) == (5, 0.05)
    assert task.benchmarks["aime24"].rows == 30


def test_a_local_path_overrides_the_hub() -> None:
    task = TaskConfig(benchmarks={"olympiadbench": {"path": "mine.parquet"}}, train={"math_12k": {"path": "m.jsonl"}})
    source = task.benchmarks["olympiadbench"]
    assert (source.path, source.dataset, source.problem, source.tolerance) == (
        *("mine.parquet", None, None, "tolerance"),
    )
    assert source.rows == 675
    assert task.train["math_12k"].rows is None  # a local training set may be a cleaned one
    assert task.train["math_12k"].revision is None


def test_another_data_set_keeps_only_the_count() -> None:
    source = TaskConfig(benchmarks={"math500": {"dataset": "me/math500", "problem": "q"}}).benchmarks["math500"]
    assert (source.dataset, source.problem, source.split, source.revision, source.rows) == (
        *("me/math500", "q", "train", None, 500),
    )


def test_a_folder_is_searched_first_one_level_deep(tmp_path: Path) -> None:
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name in (
        "benchmarks/aime24.jsonl",
        "benchmarks/gsm8k_test.parquet",
        "math500.parquet",
        "deep/er/aime25.parquet",
    ):
        (tmp_path / name).touch()
    task = TaskConfig(folder=str(tmp_path), benchmarks=["aime24", "gsm8k", "math500", "aime25"])
    assert task.benchmarks["aime24"].path == str(tmp_path / "benchmarks" / "aime24.jsonl")
    assert task.benchmarks["gsm8k"].path == str(tmp_path / "benchmarks" / "gsm8k_test.parquet")
    assert task.benchmarks["math500"].path == str(tmp_path / "math500.parquet")
    assert task.benchmarks["math500"].id == "id"
    assert (task.benchmarks["aime25"].path, task.benchmarks["aime25"].dataset) == (None, "math-ai/aime25")


def test_one_source_several_sources_and_none() -> None:
    assert TaskConfig().train == {}
    assert TaskConfig(train=None).train == {}
    assert list(TaskConfig(train={"path": "a.jsonl"}).train) == ["train"]
    assert list(TaskConfig(train=["math_12k", "gsm8k_train"]).train) == ["math_12k", "gsm8k_train"]
    assert list(TaskConfig(train={"mine": {"path": "a.jsonl"}, "math_12k": {}}).train) == ["mine", "math_12k"]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"benchmarks": ["aime23"]}, r"aime23: not a known name \(aime24, .*gsm8k\); give your own set a `path`"),
        ({"train": "aime24"}, r"aime24: not a known name \(dapo_math_17k, "),
        ({"benchmarks": ["aime24", "aime24"]}, "aime24: named twice"),
        ({"train": {"path": "a", "colum": 1}}, "unknown key colum"),
        ({"train": {"mine": {"path": "a", "colum": 1}}}, "Extra inputs are not permitted"),
        ({"train": {"mine": {"path": "a", "dataset": "b"}}}, "either a local `path` or a `dataset`"),
        ({"train": {"mine": {"path": "a{b}.jsonl"}}}, "read the braces as wildcards"),
        ({"train": 3}, "valid dictionary"),
        ({"folder": "/no/such/folder", "train": "math_12k"}, "task.folder: /no/such/folder is not a directory"),
        ({"train": {"a": {"path": "x"}}, "benchmarks": {"a": {"path": "x"}}}, "a training set and of a benchmark"),
        ({"benchmarks": {"a=b": {"path": "x"}}}, "'a=b': the name of a source or set has letters"),
    ],
)
def test_invalid_sources_are_refused(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TaskConfig(**section)
