"""Rows of local files and of data sets: columns by dotted path, chat messages, lists, counts, tolerances."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from extra_rl.config.benchmarks import PAPER_BENCHMARKS
from extra_rl.config.sections import SourceConfig, TaskConfig
from extra_rl.errors import InputError
from extra_rl.problems import hub
from extra_rl.problems.sources import Source, read_source

ROWS: dict[str, list[Any]] = {
    "id": ["a", "b", "c"],
    "problem": ["1 + 1", "2 + 2", "3 + 3"],
    "answer": ["2", "4", "6"],
    "error": [None, "1e-1", ""],
}


def written(folder: Path, columns: dict[str, list[Any]], name: str = "problems.parquet") -> Path:
    path = folder / name
    frame = pl.DataFrame(columns)
    if path.suffix == ".jsonl":
        frame.write_ndjson(path)
    else:
        frame.write_parquet(path)
    return path


def read(path: Path, **keys: Any) -> Source:
    return read_source("mine", SourceConfig(path=str(path), **keys))


@pytest.mark.parametrize("name", ["problems.parquet", "problems.jsonl"])
def test_a_local_file(tmp_path: Path, name: str) -> None:
    source = read(written(tmp_path, ROWS, name), tolerance="error", relative_tolerance=0.01, rows=3, limit=2)
    first, second = source.problems
    assert (first.problem_id, first.benchmark, first.text, first.answer) == ("mine/a", "mine", "1 + 1", "2")
    assert (first.relative_tolerance, first.absolute_tolerance) == (0.01, 0.0)
    assert (second.problem_id, second.absolute_tolerance) == ("mine/b", 0.1)
    assert (source.rows, source.commit) == (3, None)


def test_the_digest_covers_the_problems_that_are_used(tmp_path: Path) -> None:
    path = written(tmp_path, ROWS)
    lines = b'["mine/a","1 + 1","2"]\n["mine/b","2 + 2","4"]\n'
    assert read(path, limit=2).digest == hashlib.sha256(lines).hexdigest()
    assert read(path, limit=3).digest != read(path, limit=2).digest


def test_structs_messages_lists_and_numbers(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        {
            "extra": [{"index": 7}, {"index": 8}],
            "prompt": [
                [{"role": "system", "content": "s"}, {"role": "user", "content": "first"}],
                [
                    {"role": "user", "content": "hello"},
                    {"role": "assistant", "content": "yes"},
                    {"role": "user", "content": "second"},
                ],
            ],
            "reward": [{"truth": ["1", "2"]}, {"truth": ["3"]}],
        },
    )
    source = read(path, id="extra.index", problem="prompt", answer="reward.truth")
    assert [(p.problem_id, p.text, p.answer) for p in source.problems] == [
        ("mine/7", "first", "1, 2"),
        ("mine/8", "hello\n\nyes\n\nsecond", "3"),
    ]
    numbers = written(tmp_path, {"problem": ["x", "y"], "answer": [27.0, -1.5]})
    assert [(p.problem_id, p.answer) for p in read(numbers, id=None).problems] == [
        ("mine/0", "27.0"),
        ("mine/1", "-1.5"),
    ]


@pytest.mark.parametrize(
    ("change", "keys", "message"),
    [
        ({}, {"answer": "gold"}, r"no column gold \(it has id, problem, answer, error\)"),
        ({}, {"answer": "answer.x"}, r"no column answer\.x"),
        ({"answer": ["2", " ", None]}, {}, r"2 of 3 rows have no value .*row 1: answer; .*row 2: answer\."),
        ({"id": ["a", "b", "a"]}, {}, "row 0 and .*row 2 have the same id 'a'"),
        ({}, {"rows": 30}, "mine should have 30 rows, it has 3"),
        ({"error": ["0.1", "x", None]}, {"tolerance": "error"}, "row 1 has the tolerance 'x'"),
        ({"error": [-1.0, 0.0, 0.0]}, {"tolerance": "error"}, "row 0 has the tolerance -1.0"),
        ({"answer": [{"x": 1}] * 3}, {}, "column answer holds .*; name one of its fields"),
        ({"answer": [[[1]], [[2]], [[3]]]}, {}, "column answer holds nested lists"),
    ],
)
def test_faults_are_named(tmp_path: Path, change: dict[str, Any], keys: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        read(written(tmp_path, ROWS | change), **keys)
    assert str(tmp_path) in str(raised.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_text("not parquet")
    (tmp_path / "broken.jsonl").write_text("{")
    for name, message in {
        "broken.parquet": "not a readable",
        "broken.jsonl": "line 1 is not JSON, or it is cut off",
        "absent.parquet": "no such file of problems",
        "data.txt": "no such file of problems",
    }.items():
        with pytest.raises(InputError, match=message):
            read(tmp_path / name)


def test_a_data_set_by_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    """A directory in the hub's form goes the same way as a name on the hub, and downloads nothing."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "set"
    (folder / "main").mkdir(parents=True)
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: main\n  data_files:\n  - {split: train, path: main/train.jsonl}\n"
        "  - {split: test, path: main/test.jsonl}\n---\n"
    )
    for split, number in (("train", 1), ("test", 2)):
        written(
            folder / "main",
            {"question": [f"{number} + 0"], "reward_model": [{"ground_truth": f"so\n#### {number}"}]},
            f"{split}.jsonl",
        )
    keys = {"problem": "question", "answer": "reward_model.ground_truth", "id": None}
    source = read_source("g", SourceConfig(dataset=str(folder), subset="main", split="test", rows=1, **keys))
    assert [(p.problem_id, p.text, p.answer) for p in source.problems] == [("g/0", "2 + 0", "so\n#### 2")]
    assert source.commit is None
    assert "examples" not in capfd.readouterr().err
    for change in ({"subset": "other"}, {"split": "dev"}):
        with pytest.raises(InputError, match=r"cannot be read as a data set of the hub .* set task\.folder"):
            read_source("g", SourceConfig(dataset=str(folder), **({"subset": "main"} | change), **keys))


def test_without_the_hub_there_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def unreachable(*_: object, **__: object) -> None:
        raise TimeoutError("timed out\nand more")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", unreachable)
    with pytest.raises(
        InputError, match=r"no way to reach the hub \(TimeoutError: timed out\).*task\.folder"
    ) as raised:
        hub.load(SourceConfig(dataset="someone/something"))
    assert "\n" not in str(raised.value)


def test_the_commit_of_a_revision_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    import huggingface_hub

    requested: list[object] = []

    class Info:
        sha = "c" * 40

    def dataset_info(_: object, name: str, **options: object) -> Info:
        requested.append((name, options["revision"]))
        return Info()

    def load_dataset(name: str, subset: str | None, **options: object) -> datasets.Dataset:
        requested.append((name, subset, options["split"], options["revision"]))
        return datasets.Dataset.from_dict({"problem": ["1 + 1"], "answer": ["2"]})

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    source = read_source("s", SourceConfig(dataset="a/b", subset="x", split="test", revision="v1", id=None))
    assert source.commit == "c" * 40
    assert requested == [("a/b", "v1"), ("a/b", "x", "test", "c" * 40)]


DATA = os.environ.get("EXTRA_TEST_DATA")


@pytest.mark.skipif(not DATA, reason="EXTRA_TEST_DATA is not set: no real problems to read")
def test_the_real_benchmarks_have_their_counts() -> None:
    task = TaskConfig(name="math", folder=DATA, benchmarks=[*PAPER_BENCHMARKS, "gsm8k"])
    read = {name: read_source(name, config) for name, config in task.benchmarks.items()}
    assert [len(source.problems) for source in read.values()] == [30, 30, 40, 500, 272, 675, 1319]
    assert {p.relative_tolerance for p in read["minerva"].problems} == {0.01}
    tolerances = [p.absolute_tolerance for p in read["olympiadbench"].problems if p.absolute_tolerance]
    assert tolerances == [0.1]
