"""prepare: real problems in disjoint sets, everything that was removed with its reason, and where it came from."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from extra_rl.config.benchmarks import PAPER_BENCHMARKS
from extra_rl.errors import ConfigError, InputError
from extra_rl.run.execute import execute
from extra_rl.run.stage import Job
from extra_rl.tables import contracts, read_table
from extra_rl.tables.files import file_digest, read_provenance
from stages import prepare
from tests.stages.rows import run_stage

SHEEP = "A farmer has twelve sheep and sells all but nine; how many sheep are left on the farm now?"
TRAIN = {
    "sheep": (SHEEP.replace("twelve", "12"), "9"),  # holds the last 13 words
    "sum": ("What is 3 + 4?", "7"),
    "again": ("What is $3+4$?", "7.0"),
    "two": ("What is 1 + 1?", "2"),
    "three": ("What is $1 + 1$", "3"),
    "broken": ("What is a half?", r"\frac{1}{2"),
    "long": ("word " * 80, "5"),
    "last": ("What is 2 + 2?", "4"),
}
REMOVED = {
    "overlap": ["sheep"],
    "duplicate": ["again"],
    "contradictory": ["two", "three"],
    "unverifiable": ["broken"],
    "too_long": ["long"],
}
MODEL = {"source": "new", "tokenizer": "bytes", "context_tokens": 300}


def problem_file(path: Path, rows: Mapping[str, tuple[str, str]]) -> str:
    frame = pl.DataFrame([{"id": name, "problem": text, "answer": gold} for name, (text, gold) in rows.items()])
    frame.write_parquet(path)
    return str(path)


@pytest.fixture
def task(tmp_path: Path) -> dict[str, Any]:
    return {
        "name": "math",
        "train": {"path": problem_file(tmp_path / "train.parquet", TRAIN)},
        "benchmarks": {"farm": {"path": problem_file(tmp_path / "farm.parquet", {"1": (SHEEP, "9")}), "rows": 1}},
        "suffix": " Box it.",
    }


def run(task: dict[str, Any], **section: Any) -> dict[str, pl.DataFrame]:
    return run_stage(prepare, {}, {"task": task, "model": MODEL, **section})


def names(table: pl.DataFrame) -> list[str]:
    return [problem_id.rpartition("/")[2] for problem_id in table["problem_id"]]


def test_what_is_trained_on_held_out_and_dropped(task: dict[str, Any]) -> None:
    made = run(task)
    assert names(made["train"]) == ["sum", "last"]
    assert made["held_out"]["problem_id"].to_list() == ["farm/1"]
    assert made["held_out"]["split"].to_list() == ["final"]
    dropped = made["dropped"]
    assert {rule: names(part) for (rule,), part in dropped.group_by("rule", maintain_order=True)} == REMOVED
    rows = {row["problem_id"]: row for row in dropped.iter_rows(named=True)}
    assert (rows["train/sheep"]["other_problem_id"], rows["train/sheep"]["answer"]) == ("farm/1", "9")
    assert rows["train/sheep"]["share"] == pytest.approx(8 / 12)  # 19 words; the fourth is changed
    assert rows["train/again"]["other_problem_id"] == "train/sum"
    assert rows["train/long"]["prompt_length"] > 300 - 64
    assert rows["train/two"]["problem"] == "What is 1 + 1?"


def test_the_prompt_is_what_is_sent(task: dict[str, Any]) -> None:
    row = run(task | {"thinking": False, "system": "Be brief."})["train"].row(0, named=True)
    assert row["prompt"] == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat is 3 + 4? Box it.<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )
    assert (row["answer"], row["canonical"], row["relative_tolerance"]) == ("7", "whatis3+4", 0.0)


def test_tolerances_reach_the_problems(task: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    pl.DataFrame({"id": ["1"], "problem": ["q"], "answer": ["1"], "error": ["0.5"]}).write_ndjson(path)
    task["benchmarks"]["loose"] = {"path": str(path), "tolerance": "error", "relative_tolerance": 0.01}
    rows = {row["problem_id"]: row for row in run(task)["held_out"].iter_rows(named=True)}
    assert (rows["loose/1"]["relative_tolerance"], rows["loose/1"]["absolute_tolerance"]) == (0.01, 0.5)
    assert rows["farm/1"]["absolute_tolerance"] == 0


def test_tuning_problems_are_set_aside_by_the_seed(tmp_path: Path, task: dict[str, Any]) -> None:
    many = {str(n): (f"What is {n} + {n}?", str(2 * n)) for n in range(40)}
    task["train"] = {"path": problem_file(tmp_path / "many.parquet", many)}
    made = run(task, tuning_problems=8)
    tuning = made["held_out"].filter(pl.col("split") == "tuning")
    assert (len(tuning), len(made["train"])) == (8, 32)
    assert set(tuning["canonical"]) & set(made["train"]["canonical"]) == set()
    assert names(tuning) != [str(n) for n in range(8)]
    assert run(task, tuning_problems=8)["held_out"].equals(made["held_out"])
    assert names(run(task, tuning_problems=8, seed=1)["held_out"]) != names(made["held_out"])
    with pytest.raises(ConfigError, match="tuning_problems: 40 of 40"):
        run(task, tuning_problems=40)


def test_sources_say_what_was_read(task: dict[str, Any]) -> None:
    task["train"]["limit"] = 3
    train, farm = run(task)["sources"].to_dicts()
    assert (train["name"], train["split"], train["rows"], train["taken"], train["expected_rows"]) == (
        *("train", "train", 8, 3, None),
    )
    assert (farm["name"], farm["split"], farm["rows"], farm["expected_rows"]) == ("farm", "final", 1, 1)
    assert farm["path"] == task["benchmarks"]["farm"]["path"]
    assert len(farm["digest"]) == 64
    assert farm["digest"] != train["digest"]


def test_a_benchmark_is_never_thinned(task: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"1 benchmark prompts are longer than 66 tokens.*raise model.context_tokens"):
        run(task, model=MODEL | {"context_tokens": 130})


def test_a_generated_task_has_no_sources() -> None:
    made = run_stage(prepare, {}, {"train_per_level": {"L2": 3}, "tuning_per_level": 1, "final_per_level": 1})
    assert made["sources"].is_empty()
    assert len(made["train"]) == 3
    assert made["train"]["relative_tolerance"].to_list() == [0.0] * 3


def test_math_needs_a_benchmark_and_evaluates_without_training_problems(task: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"needs at least one of task\.benchmarks"):
        run(task | {"benchmarks": {}})
    made = run(task | {"train": None})
    assert (len(made["train"]), names(made["held_out"])) == (0, ["1"])


def test_a_local_file_is_an_input_known_by_its_bytes(task: dict[str, Any], tmp_path: Path) -> None:
    config = {"task": task, "model": MODEL, "sampling": {}, "verifier": {}}
    job = Job("prepare", prepare.STAGE.version, 0, config)
    outputs = {role: tmp_path / "out" / f"{role}.parquet" for role in prepare.STAGE.writes}
    moved = tmp_path / "moved.parquet"
    Path(task["train"]["path"]).rename(moved)
    inputs = {"source:train": moved, "source:farm": Path(task["benchmarks"]["farm"]["path"])}
    execute(prepare.STAGE, prepare.Config, prepare.run, job, inputs, outputs, None)
    assert len(read_table(outputs["train"], contracts.Problems)) == 2
    assert read_provenance(outputs["train"])["inputs"]["source:train"] == {
        "name": "source:train",
        "digest": file_digest(moved),
    }
    with pytest.raises(InputError, match=r"train\.parquet: no such file of problems"):
        execute(prepare.STAGE, prepare.Config, prepare.run, job, {}, outputs, None)


def test_rows_without_a_value_are_refused_or_dropped_and_counted(
    task: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {"answer": ["2", "nan", None], "problem": ["What is 1 + 1?", "What is 2 + 2?", "What is 3 + 3?"]}
    pl.DataFrame(rows).write_csv(tmp_path / "t.csv")
    task["train"] = {"path": str(tmp_path / "t.csv")}
    with pytest.raises(InputError, match=r"2 of 3 rows have no value .*row 1 \(line 3\): answer"):
        run(task)
    made = run(task | {"train": {**task["train"], "missing": "drop"}})
    assert made["train"]["answer"].to_list() == ["2"]
    assert [(row["problem_id"], row["rule"]) for row in made["dropped"].to_dicts()] == [
        *(("train/1", "missing"), ("train/2", "missing")),
    ]
    assert "2 rows without a problem, answer or id were left out" in "".join(capsys.readouterr())
    task["benchmarks"]["farm"]["missing"] = "drop"
    with pytest.raises(ConfigError, match=r"task\.benchmarks\.farm\.missing"):
        run(task)


def test_references_that_are_prose_are_refused_with_their_rows_unless_allowed(
    task: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many = {str(n): (f"What is the capital of country {n}?", "Paris" if n % 5 == 0 else str(n)) for n in range(40)}
    task["train"] = {"path": problem_file(tmp_path / "many.parquet", many)}
    with pytest.raises(
        InputError, match=r"8 of 40 reference answers .*prose_references.*many\.parquet, row 5: 'Paris'"
    ):
        run(task)
    made = run(task, prose_references=0.2)
    assert made["train"]["answer"].to_list().count("Paris") == 8
    assert "8 of 40 reference answers are words or code" in "".join(capsys.readouterr())


def test_generated_problems_are_kept_next_to_others_of_their_template(
    task: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def made(first: int, count: int) -> dict[str, tuple[str, str]]:
        text = "Compute the sum of the numbers {} and {} step by step, and write the result as an integer in a box."
        return {str(n): (text.format(n, 3 * n + 1), str(4 * n + 1)) for n in range(first, first + count)}

    task["train"] = {"path": problem_file(tmp_path / "many.parquet", made(100, 60))}
    task["benchmarks"] = {"held": {"path": problem_file(tmp_path / "held.parquet", made(155, 30))}}
    tables = run(task)
    assert (len(tables["train"]), tables["dropped"]["rule"].to_list()) == (55, ["overlap"] * 5)
    printed = "".join(capsys.readouterr())
    assert "5 overlap one of 30 benchmark problems (equal 5)" in printed
    assert "55 training problems share only a template's words" in printed
    assert "prepare.template_share: 0.01; 0 removes them" in printed
    with pytest.raises(ConfigError, match="the train set is empty"):
        run(task, template_share=0)


def test_a_conversation_is_sent_whole(task: dict[str, Any], tmp_path: Path) -> None:
    turns = [("system", "Be kind."), ("user", "What is 3 + 4?"), ("assistant", "7"), ("user", "And 5 more?")]
    messages = [{"role": role, "content": content} for role, content in turns]
    pl.DataFrame({"prompt": [messages], "answer": ["12"]}).write_parquet(tmp_path / "t.parquet")
    (row,) = run(task | {"train": {"path": str(tmp_path / "t.parquet")}})["train"].to_dicts()
    turns[-1] = ("user", "And 5 more? Box it.")
    assert row["prompt"] == (
        "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in turns) + "<|im_start|>assistant\n"
    )
    assert row["problem"] == "What is 3 + 4?\n\n7\n\nAnd 5 more?"


DATA = os.environ.get("EXTRA_TEST_DATA")


@pytest.mark.skipif(not DATA, reason="EXTRA_TEST_DATA is not set: no real problems to read")
def test_every_flagged_overlap_of_dapo_is_found() -> None:
    """83 rows of the file are flagged as equal or nearly equal to a problem of the six."""
    task = {"name": "math", "folder": DATA, "train": "dapo_math_17k", "benchmarks": list(PAPER_BENCHMARKS)}
    made = run(task, model=MODEL | {"context_tokens": 6000}, verifier={"workers": 2})
    flagged = pl.read_parquet(f"{DATA}/train/dapo_math_17k.parquet").filter(pl.col("overlap").is_not_null())
    assert len(flagged) == 83
    found = made["dropped"].filter(pl.col("rule") == "overlap")
    other = dict(found.select("problem_id", "other_problem_id").iter_rows())
    for row_id, overlap in flagged.select("id", "overlap").iter_rows():
        assert other[f"dapo_math_17k/{row_id}"].rpartition("/")[2] == overlap
    counts = Counter(made["dropped"]["rule"])
    assert len(made["train"]) + sum(counts.values()) == 16_515
    assert made["train"]["canonical"].n_unique() == len(made["train"])
    assert dict(made["held_out"]["benchmark"].value_counts().iter_rows()) == dict(
        zip(PAPER_BENCHMARKS, (30, 30, 40, 500, 272, 675), strict=True)
    )
