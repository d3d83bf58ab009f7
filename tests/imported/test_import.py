"""Rollouts of other programs as a run: values of every format, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from extra_cli.main import main
from extra_rl.models.tokenizers import byte_level
from extra_rl.tables import contracts, read_table, scan_run
from tests.conftest import Run
from tests.imported import files
from tests.imported.command import given, imported, rows


def test_trl_with_answers_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files.trl(tmp_path / "completions")
    assert imported("completions", "--answers", files.problems(tmp_path / "p.jsonl")) == 0
    said = capsys.readouterr().out
    assert "results/x: 12 rollouts of 2 problems in 4 groups (trl)" in said
    assert "imported/s0: 2 iteration(s), steps 10, 20 of the file" in said
    assert (
        "the verdicts agree with the file's rewards on 10 of 12 rollouts; 2 are correct only here, 0 only there" in said
    )
    found = rows()
    assert found["verdict"].cast(pl.String).to_list() == files.VERDICTS
    assert found["response"].to_list() == [response for _, response, _ in files.ROWS]
    assert found["group_id"].to_list() == ["imported/s0/i0/0"] * 3 + ["imported/s0/i0/1"] * 3
    assert found["gold"].to_list() == ["56"] * 3 + [r"\frac{3}{4}"] * 3
    assert found["sampler_logprobs"].null_count() == found["policy_logprobs"].null_count() == 6
    tokenizer = byte_level()
    assert tokenizer.decode(found["prompt_tokens"][0].to_list()) == files.chat("What is 7 * 8?")
    assert tokenizer.decode(found["response_tokens"][1].to_list()) == r"It is \boxed{54}."
    # Three rewards 1, 0, 0: mean 1/3, sample deviation 0.57735.
    assert found["normalised"][0] == pytest.approx((1 - 1 / 3) / 0.5773503, rel=1e-4)
    own = given("imported/s0/iteration_0001")
    assert own["step"].to_list() == [20] * 6
    assert own["reward"].to_list() == [reward for _, _, reward in files.ROWS]
    assert own["place"][0].endswith("completions_00020.parquet, row 0")
    problems = read_table(Path("results/x/prepare/train.parquet"), contracts.Problems)
    assert problems["problem"].to_list() == list(files.PROBLEMS)
    assert scan_run("results/x").select(pl.len()).collect().item() == 12


def test_the_folder_serves_every_reader(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files.trl(tmp_path / "completions")
    files.verl(tmp_path / "verl")
    answers = files.problems(tmp_path / "p.jsonl")
    assert imported("trl=completions", "verl/s1=verl", "--answers", answers) == 0
    assert main(["show", "results/x"]) == 0
    assert main(["explain", "verl/s1/i0/1/0", "--results", "results/x"]) == 0
    said = capsys.readouterr().out
    assert "right by rule box/number; extracted answer: 0.75" in said
    assert main(["audit", "results/x/trl/s0/iteration_0000", "--judge", "string"]) == 0
    disagreed = read_table(Path("results/x/trl/s0/iteration_0000/audit_generate.parquet"), contracts.Disagreements)
    assert disagreed["rollout_id"].to_list() == ["trl/s0/i0/1/0"]
    assert main(["check", "results/x"]) == 0
    assert main(["report", "results/x"]) == 0
    assert "0.75" in Path("results/x/report.html").read_text()
    record = "results/x/trl/s0/iteration_0001/novelty.parquet"
    from stages.command import main as stage

    assert stage(["novelty", "--rerun", record, "--to", str(tmp_path / "again"), "--set", "measure=lexical"]) == 0
    again = pl.read_parquet(tmp_path / "again" / "novelty.parquet")
    assert again["novelty"].max() > 0


def test_snakemake_refuses_to_continue_an_import(tmp_path: Path) -> None:
    files.verl(tmp_path / "verl")
    problems = str(files.problems(tmp_path / "p.jsonl"))
    config = tmp_path / "c.yaml"
    task = {"name": "math", "train": {"path": problems}, "benchmarks": {"b": {"path": problems}}}
    model = {"source": "new", "tokenizer": "bytes", "context_tokens": 256}
    config.write_text(yaml.safe_dump({"name": "x", "iterations": 1, "task": task, "model": model}))
    assert imported("verl", "--config", config) == 0
    before = {path: path.read_bytes() for path in Path("results/x").rglob("*.parquet")}
    done = Run(tmp_path, Path("results/x/import.yaml")).snakemake(check=False)
    assert done.returncode != 0
    assert "made by the stage import instead of generate" in done.stderr
    assert {path: path.read_bytes() for path in Path("results/x").rglob("*.parquet")} == before


def test_verl(tmp_path: Path) -> None:
    files.verl(tmp_path / "verl", steps=(3, 12))
    assert imported("dapo/s2=verl") == 0
    found = rows("dapo/s2/iteration_0001")
    assert found["verdict"].cast(pl.String).to_list() == files.VERDICTS
    own = given("dapo/s2/iteration_0001")
    assert own["step"].to_list() == [12] * 6
    assert own["reward"].to_list() == [reward for _, _, reward in files.ROWS]
    assert json.loads(own["further"][0]) == {"acc": 1.0}


def test_verifiers(tmp_path: Path) -> None:
    files.verifiers(tmp_path / "results.jsonl")
    assert imported("results.jsonl") == 0
    found = rows()
    expected = [verdict if verdict != "no_answer" else "truncated" for verdict in files.VERDICTS]
    assert found["verdict"].cast(pl.String).to_list() == expected
    assert found["problem_id"].to_list() == ["imported/example/0"] * 3 + ["imported/example/1"] * 3
    problem = read_table(Path("results/x/prepare/train.parquet"), contracts.Problems).row(0, named=True)
    assert problem["prompt"] == (
        "<|im_start|>system\nThink.<|im_end|>\n<|im_start|>user\nWhat is 7 * 8?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert problem["problem"] == "What is 7 * 8?"


def test_traces_of_prime_rl_have_tokens_and_logprobs(tmp_path: Path) -> None:
    tokenizer = byte_level()
    files.traces(tmp_path / "rollouts" / "step_4" / "train_rollouts.jsonl", tokenizer)
    files.traces(tmp_path / "rollouts" / "step_11" / "train_rollouts.jsonl", tokenizer)
    assert imported("rollouts/step_*/train_rollouts.jsonl") == 0
    found = rows("imported/s0/iteration_0001")
    assert found["verdict"].cast(pl.String).to_list() == files.VERDICTS
    assert tokenizer.decode(found["prompt_tokens"][0].to_list()) == files.chat("What is 7 * 8?")
    assert found["response_tokens"][0].to_list()[-1] == tokenizer.eos_token_id
    assert found["sampler_logprobs"][0].to_list() == [-0.25] * len(found["response_tokens"][0])
    own = given("imported/s0/iteration_0001")
    assert own["step"].to_list() == [11] * 6
    assert own["reward"].to_list() == [2 * reward + 0.5 for _, _, reward in files.ROWS]
    assert json.loads(own["further"][0]) == {"correct": 2.0, "format": 0.5}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"errors": [{"type": "Timeout"}]}, "the rollout failed there"),
        ({"nodes": []}, "the trace has no messages"),
        ({"nodes": lambda nodes: [*nodes, nodes[1]]}, "the trace has 2 sampled messages; only a single answer"),
        ({"nodes": lambda nodes: [nodes[0], {**nodes[1], "parent": None}]}, "several branches of messages"),
        ({"nodes": lambda nodes: [nodes[0], {**nodes[1], "mask": [True]}]}, "tokens and a mask of 1"),
        ({"nodes": lambda nodes: [nodes[0], {**nodes[1], "logprobs": [-1.0]}]}, "1 logprobs for [0-9]+ tokens"),
        ({"rewards": {"correct": {"score": None}}}, "not a row of the format prime-rl"),
    ],
)
def test_traces_that_are_no_single_answer_are_refused(
    changed: dict[str, Any], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = files.traces(tmp_path / "train_rollouts.jsonl", byte_level())
    content = [json.loads(line) for line in path.read_text().splitlines()]
    for name, change in changed.items():
        content[1][name] = change(content[1]["nodes"]) if callable(change) else change
    files.lines(path, content)
    assert imported(path.name) == 2
    error = capsys.readouterr().err
    assert "1 of 6 rows cannot be imported. train_rollouts.jsonl, row 1 (line 2): " in error
    assert re.search(reason, error)


def test_lists_of_completions(tmp_path: Path) -> None:
    content = [
        {"question": p, "answer": files.PROBLEMS[p], "responses": r, "rewards": files.REWARDS[p], "data_source": "own"}
        for p, r in files.RESPONSES.items()
    ]
    files.lines(tmp_path / "r.jsonl", content)
    assert imported("r.jsonl") == 0
    assert rows()["verdict"].cast(pl.String).to_list() == files.VERDICTS
    assert given()["reward"].to_list() == [reward for _, _, reward in files.ROWS]
    assert given()["place"][1] == "r.jsonl, row 0 (line 1), completion 1"
    problem = read_table(Path("results/x/prepare/train.parquet"), contracts.Problems).row(0, named=True)
    assert problem["benchmark"] == "own"
    assert problem["prompt"].startswith("<|im_start|>user\nWhat is 7 * 8?")  # a statement is rendered


def test_csv_and_a_rewards_column_without_reference_answers(tmp_path: Path) -> None:
    table = pl.DataFrame({"prompt": ["a", "a", "b"], "response": ["x", "None", "z"], "reward": [0.5, 0.2, 1.0]})
    table.write_csv(tmp_path / "r.csv")
    assert imported("r.csv", "--reward", "reward", "--right-from", "0.5") == 0
    found = rows()
    assert found["verdict"].cast(pl.String).to_list() == ["right", "wrong", "right"]
    assert found["reward"].to_list() == pytest.approx([0.5, 0.2, 1.0])
    assert found["rule"].unique().to_list() == ["imported: reward"]
    assert found["response"].to_list() == ["x", "None", "z"]  # a text that means no value elsewhere
    assert main(["check", "results/x"]) == 0


ROW: dict[str, Any] = {"prompt": "1 + 1 =", "response": "2", "answer": "2"}
ABC = [97, 98, 99]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"answer": None}, "no reference answer"),
        ({"answer": "nan"}, "no reference answer"),
        ({"response": None}, "no response"),
        ({"prompt": None}, "no prompt"),
        ({"prompt": ""}, "the prompt is empty"),
        ({"prompt_tokens": [4000]}, "the prompt has the token id 4000, and the tokenizer has 259"),
        (
            {"response": "other", "response_tokens": [16, 17]},
            "the response's tokens decode to '[^']+', its text is 'other'",
        ),
        ({"response_tokens": [17], "logprobs": [-0.5, -0.5]}, "2 logprobs for 1 tokens of the response"),
        ({"response_tokens": [17], "logprobs": [0.5]}, "the logprob 0.5 is not a finite number of 0 or less"),
        ({"logprobs": [-0.5]}, "logprobs without the token ids"),
        ({"response_tokens": [1.5]}, "column response_tokens holds something that is not a token id"),
        ({"reward": "good"}, "column reward holds 'good'; expected a number"),
        ({"step": 1.5}, "column step holds 1.5; expected a whole number"),
        ({"response": {"a": 1}}, "no response|holds"),
        ({"response": [{"role": "assistant", "content": "a"}] * 2}, "the completion has 2 messages"),
        ({"response": [{"role": "assistant", "content": "", "tool_calls": [1]}]}, "the completion calls tools"),
        (
            {"prompt": [{"role": "assistant", "content": "a"}]},
            "the prompt's conversation cannot be sent: it has no user",
        ),
        ({"image": "x.png"}, "column image is not empty"),
        ({"group_id": "g", "problem_id": "other"}, "group g has completions of several problems"),
        ({"problem_id": "p", "answer": "3"}, "problem p has the reference answer '3' here and '2' in r.jsonl, row 0"),
        ({"responses": ["1", "2"], "rewards": [1]}, "responses has 2 members and rewards 1"),
    ],
)
def test_bad_rows_are_refused_with_file_row_and_reason_or_left_out_and_counted(
    changed: dict[str, Any], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = {**ROW, "problem_id": "p", "group_id": "g" if "group_id" in changed else "f"}
    files.lines(tmp_path / "r.jsonl", [first, {**ROW, "problem_id": "q", **changed}])
    assert imported("r.jsonl") == 2
    error = capsys.readouterr().err
    assert "1 of 2 rows cannot be imported. r.jsonl, row 1 (line 2)" in error
    assert not Path("results").exists()
    assert imported("r.jsonl", "--bad", "drop", "--no-judge") == 0
    assert "1 of 2 rows left out" in capsys.readouterr().out
    (left_out,) = json.loads(Path("results/x/import.json").read_text())["left_out"]
    assert re.search(reason, left_out["reason"]), left_out
    assert rows()["rollout_id"].to_list() == ["imported/s0/i0/0/0"]


def test_no_usable_row_and_unknown_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert imported("trl=nothing.jsonl") == 2
    assert "nothing.jsonl: no such file or folder of rollouts" in capsys.readouterr().err
    files.lines(tmp_path / "r.jsonl", [{**ROW, "answer": ""}])
    assert imported("r.jsonl", "--bad", "drop") == 2
    assert "No row can be imported. r.jsonl, row 0 (line 1): no reference answer" in capsys.readouterr().err
    files.lines(tmp_path / "s.jsonl", [{"a": 1}])
    assert imported("s.jsonl") == 2
    assert "no column of completions is known there (it has a)" in capsys.readouterr().err
    assert not Path("results").exists()


def test_a_message_on_many_bad_rows_is_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = [{**ROW, "response": f"it's {i}" * (i % 7), "response_tokens": [20 + i]} for i in range(40)]
    others = [{**ROW, **change} for change in ({"answer": None}, {"prompt": ""}, {"response": None}, {"step": 1.5})]
    files.lines(tmp_path / "r.jsonl", [*wrong, *others, {**ROW, "reward": "good"}, {**ROW, "image": "x.png"}])
    assert imported("r.jsonl") == 2
    error = capsys.readouterr().err
    assert "more such rows" in error
    assert "more rows with other reasons" in error
    assert len(error) < 1500


def test_entries_of_a_schedule_hold_for_the_iterations_and_arms_of_the_files(tmp_path: Path) -> None:
    files.lines(tmp_path / "r.jsonl", [{**ROW, "response": text, "step": i} for i in (0, 1) for text in ("2", "3")])
    schedule = [
        {"from": 1, "verify": {"weights": {"correct": 3}}},
        {"from": 1, "arms": ["other"], "verify": {"weights": {"correct": 5}}},
        {"from": 9, "verify": {"weights": {"correct": 7}}},
    ]
    raw = {"name": "x", "iterations": 12, "task": {"name": "math"}, "model": {"source": "new", "tokenizer": "bytes"}}
    arms = {"imported": {}, "other": {}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(raw | {"schedule": schedule, "arms": arms}))
    assert imported("r.jsonl", "--config", "c.yaml") == 0
    assert rows("imported/s0/iteration_0000")["reward"].to_list() == [1, 0]
    assert rows("imported/s0/iteration_0001")["reward"].to_list() == [3, 0]


def test_an_import_is_replaced_on_request_and_a_run_never(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files.lines(tmp_path / "r.jsonl", [ROW])
    assert imported("r.jsonl", "--no-judge") == 0
    before = {path: path.read_bytes() for path in Path("results/x").rglob("*") if path.is_file()}
    assert imported("r.jsonl", "--no-judge") == 2
    assert "exists already. Name another folder with --to, or add --force" in capsys.readouterr().err
    assert imported("r.jsonl", "--no-judge", "--force") == 0
    after = {path: path.read_bytes() for path in Path("results/x").rglob("*") if path.is_file()}
    assert {path: value for path, value in after.items() if path.name != ".checked.json"} == {
        path: value for path, value in before.items() if path.name != ".checked.json"
    }  # the same files give the same bytes
    Path("results/x/import.json").unlink()
    assert imported("r.jsonl", "--force") == 2
    assert "is no import" in capsys.readouterr().err
    assert sorted(path.name for path in Path("results").iterdir()) == ["x"]


def test_the_page_lists_the_formats_and_columns_that_are_read() -> None:
    from extra_cli.import_rollouts import FORMATS
    from extra_rl.imported import formats
    from tests.conftest import ROOT

    page = (ROOT / "docs" / "import.md").read_text()
    assert FORMATS == formats.NAMES
    for name in formats.NAMES:
        assert f"| `{name}` |" in page
    columns = (formats.ANSWERS, formats.LEVELS, formats.STATEMENTS, formats.PROMPT_TOKENS, formats.RESPONSES)
    for names in (*columns, formats.TOKENS, formats.LOGPROBS, formats.GROUPS, formats.STEPS, formats.SEVERAL):
        assert ", ".join(f"`{name}`" for name in names) in page
