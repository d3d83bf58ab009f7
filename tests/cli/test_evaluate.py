"""`extra evaluate`, end to end and offline: a small Qwen3, hand-made benchmark files, two tables and the cache."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from extra_cli import evaluate
from extra_cli.main import main
from extra_rl.evaluation.policies import find_policy
from extra_rl.models.tokenizers import byte_level
from extra_rl.sampling.transformers import TransformersSampler
from extra_rl.tables import contracts, read_table
from extra_rl.tables.files import read_provenance
from tests.conftest import environment
from tests.evaluation.models import small_model
from tests.models import random_model

ROWS = {"aime24": 30, "amc23": 40}
SIZES = ("--samples", "2", "--max-response-tokens", "8", "--batch-rows", "16")

Evaluates = Callable[..., int]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of two benchmarks with as many rows as they must have."""
    made = tmp_path_factory.mktemp("benchmarks")
    for name, rows in ROWS.items():
        columns = {"id": [f"{name}-{n}" for n in range(rows)], "problem": [f"What is {n} + 1?" for n in range(rows)]}
        pl.DataFrame({**columns, "answer": [str(n + 1) for n in range(rows)]}).write_parquet(made / f"{name}.parquet")
    return made


@pytest.fixture
def run(model: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Evaluates:
    """`extra evaluate` in an empty directory; gives the number of samples that were drawn."""
    monkeypatch.chdir(tmp_path)
    drawn: list[int] = []
    sample = TransformersSampler.sample

    def counted(self: TransformersSampler, requests: Any, config: Any, advance: Any) -> Any:
        drawn.append(len(requests))
        return sample(self, requests, config, advance)

    monkeypatch.setattr(TransformersSampler, "sample", counted)

    def evaluates(*arguments: str, policy: Path = model, names: str = "aime24", exit_code: int = 0) -> int:
        drawn.clear()
        command = ["evaluate", str(policy), "--folder", str(folder), "--benchmarks", names, *SIZES, *arguments]
        assert main(command) == exit_code
        return sum(drawn)

    return evaluates


def tables(out: Path) -> dict[str, pl.DataFrame]:
    return {
        "evaluate": read_table(out / "evaluate.parquet", contracts.EvaluationSamples),
        "evaluate_figures": read_table(out / "evaluate_figures.parquet", contracts.EvaluationFigures),
    }


def test_from_the_chat_template_to_the_tables(
    run: Evaluates, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(names="aime24,amc23") == 140
    digest = find_policy(str(model)).digest
    out = tmp_path / "results" / "evaluations" / digest[:16] / "aime24_amc23-n2-t0.7-p0.9-8tokens-seed0"
    made = tables(out)
    rows = made["evaluate"]
    assert rows["benchmark"].to_list() == ["aime24"] * 60 + ["amc23"] * 80
    assert rows["sample_index"].to_list() == [0, 1] * 70
    sent = bytes(t for t in rows["prompt_tokens"][0] if t < 256)
    assert len(sent) > 60  # through the byte-level tokenizer: one id a byte
    assert rows["response_tokens"].list.len().max() <= 8
    assert set(made["evaluate_figures"]["benchmark"]) == {"aime24", "amc23", "mean"}
    footer = read_provenance(out / "evaluate.parquet")
    assert footer["inputs"]["policy"]["digest"] == digest
    config = footer["job"]["config"]
    assert (config["temperature"], config["top_p"], config["samples"]) == (0.7, 0.9, 2)
    assert config["task"]["suffix"] == "\nPlease reason step by step, and put your final answer within \\boxed{}."
    said = capsys.readouterr().out
    assert "aime24                 30" in said
    assert f"wrote {out.relative_to(tmp_path)}/evaluate.parquet" in said


def test_a_llama_gives_the_same_samples_at_any_number_of_rows(run: Evaluates, tmp_path: Path) -> None:
    """Its mask was once lost: each row then saw the padding of the others."""
    llama = random_model("Llama", vocab_size=len(byte_level()), eos_token_id=257, max_position_embeddings=512)
    llama.save_pretrained(tmp_path / "llama")
    byte_level().save_pretrained(tmp_path / "llama")
    made = {}
    for rows in (1, 3, 64):
        options = ("--no-cache", "--limit", "5", "--batch-rows", str(rows), "--max-response-tokens", "24")
        run(*options, "--temperature", "1", "--out", f"rows{rows}", policy=tmp_path / "llama", names="aime24,amc23")
        made[rows] = tables(tmp_path / f"rows{rows}")["evaluate"]
    assert len(made[1]) == 20
    for rows in (3, 64):
        for column in ("response_tokens", "response", "verdict"):
            assert made[rows][column].to_list() == made[1][column].to_list(), (rows, column)


def test_prompts_are_rendered_with_the_policys_own_template(run: Evaluates, model: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(model, tmp_path / "other"))
    template = other / "chat_template.jinja"
    template.write_text(template.read_text().replace("assistant", "solver"))
    run("--limit", "1", "--out", "first")
    run("--limit", "1", "--out", "second", policy=other)
    from extra_rl.models.policy import load_tokenizer

    first, second = (
        load_tokenizer(model).decode(pl.read_parquet(f"{name}/evaluate.parquet")["prompt_tokens"][0].to_list())
        for name in ("first", "second")
    )
    assert "What is 0 + 1?\nPlease reason step by step" in first
    assert first.endswith("<|im_start|>assistant\n")
    assert second == first.replace("assistant", "solver")


def test_only_new_samples_are_drawn(run: Evaluates, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--limit", "5") == 10
    assert run() == 60 - 10
    assert run() == 0
    assert run("--samples", "3") == 30
    assert run("--samples", "3", names="aime24,amc23") == 120
    assert run("--samples", "1", names="amc23") == 0
    assert run("--temperature", "1.0", names="amc23", exit_code=0) == 80
    assert "70 of 70 samples are cached" not in capsys.readouterr().out.splitlines()[-1]


def test_cached_samples_need_the_same_policy_but_no_weights(run: Evaluates, model: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(model, tmp_path / "copy"))
    run("--out", "first")
    assert run("--out", "second", policy=copy) == 0
    assert tables(tmp_path / "first")["evaluate"].equals(tables(tmp_path / "second")["evaluate"])


def test_a_changed_weight_file_is_another_policy(run: Evaluates, tmp_path: Path) -> None:
    first = small_model(tmp_path / "models" / "a", seed=1)
    assert run("--limit", "3", policy=first) == 6
    small_model(first, seed=2)
    assert run("--limit", "3", policy=first) == 6
    assert len({path.parent for path in tmp_path.glob("results/evaluations/*/*/settings.json")}) == 2


def test_options_override_the_sections_of_a_configuration(run: Evaluates, folder: Path, tmp_path: Path) -> None:
    config = {
        "name": "x",
        "task": {
            "name": "math",
            "benchmarks": {"mine": {"path": str(folder / "aime24.parquet"), "limit": 4}, "amc23": {}},
            "folder": str(folder),
            "suffix": " Answer!",
        },
        "verifier": {"policy": {"fallbacks": []}},
        "sampling": {"batch_rows": 3},
        "evaluate": {"samples": 5, "temperature": 0.3, "max_response_tokens": 7, "part_samples": 5},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert run("--config", "config.yaml", "--temperature", "0.5", "--out", "out", names="mine") == 4 * 2
    section = read_provenance(tmp_path / "out" / "evaluate.parquet")["job"]["config"]
    assert (section["temperature"], section["top_p"], section["samples"]) == (0.5, 1.0, 2)
    assert section["verifier"]["policy"]["fallbacks"] == []
    assert list(section["task"]["benchmarks"]) == ["mine"]
    assert section["task"]["benchmarks"]["mine"]["limit"] == 4
    assert section["task"]["suffix"] == " Answer!"


def test_other_stop_strings_are_other_samples_in_another_folder(run: Evaluates, tmp_path: Path) -> None:
    assert run() == 60
    assert run("--stop", "a\n/", "--stop", "e") == 60
    assert run("--stop", "e", "--stop", "a\n/") == 0
    assert run("--stop", "e") == 60
    paths = list(tmp_path.glob("results/evaluations/*/*/evaluate.parquet"))
    stops = [read_provenance(path)["job"]["config"]["stop"] or [] for path in paths]
    assert sorted(stops) == [[], ["e"], ["e", "a\n/"]]
    for path, stop in zip(paths, stops, strict=True):
        texts = pl.read_parquet(path)["response"]
        assert any("e" in text for text in texts) == (not stop)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--max-response-tokens", "500"), r"the context has 512 tokens .* Lower max_response_tokens to at most "),
        (("--temperature", "0"), r"evaluate.temperature: "),
        (("--benchmarks", "aime42"), r"aime42: not a known name"),
        (("--benchmarks", ","), r"no benchmark"),
        (("--config", "none.yaml"), r"none.yaml: no such configuration file"),
    ],
)
def test_a_mistake_is_one_clear_error(
    run: Evaluates, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    import re

    run(*arguments, exit_code=2)
    said = capsys.readouterr().err
    assert re.search(message, said)
    assert "Traceback" not in said


def test_a_generated_task_is_refused_with_the_command_to_use(
    run: Evaluates, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.yaml").write_text("task: {name: signed_sum}")
    run("--config", "tiny.yaml", exit_code=2)
    assert "use `snakemake evaluate`" in capsys.readouterr().err


def test_an_interrupt_reports_that_samples_are_cached(
    run: Evaluates, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate, "evaluate_and_write", interrupted)
    run(exit_code=130)
    assert "Samples are cached in results/evaluations" in capsys.readouterr().out
    run("--no-cache", exit_code=130)
    assert "No samples are cached" in capsys.readouterr().out


def test_a_killed_evaluation_continues_with_equal_bytes(
    model: Path,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """kill -9 between two parts; then the same command ends with the bytes of one that was left alone."""
    config = {"task": {"name": "math", "folder": str(folder), "benchmarks": ["amc23"]}, "sampling": {"batch_rows": 4}}
    config["evaluate"] = {"samples": 4, "max_response_tokens": 48, "part_samples": 4}
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    arguments = ["evaluate", str(model), "--config", str(tmp_path / "config.yaml"), "--out", "out"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for place in (whole, killed):
        place.mkdir()
    command = [sys.executable, "-m", "extra_cli.main", *arguments]
    with subprocess.Popen(command, cwd=killed, env=environment(), stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not list(killed.rglob("part-*.parquet")) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    found = {path.name for path in killed.rglob("part-*.parquet")}
    assert 0 < len(found) < 40
    for place in (whole, killed):
        monkeypatch.chdir(place)
        assert main(arguments) == 0
    assert f"{4 * len(found)} of 160 samples are cached" in capsys.readouterr().out
    for table in ("evaluate.parquet", "evaluate_figures.parquet"):
        assert (killed / "out" / table).read_bytes() == (whole / "out" / table).read_bytes()
    parts = {path.name: path.read_bytes() for path in whole.rglob("part-*.parquet")}
    assert parts == {path.name: path.read_bytes() for path in killed.rglob("part-*.parquet")}
    assert len(parts) == 40
