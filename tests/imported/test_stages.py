"""What works on imported rollouts afterwards: scores, one update, comparisons; and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from extra_cli.main import main
from extra_rl.errors import ExtraError
from extra_rl.models.policy import read_manifest
from extra_rl.tables import contracts, read_table
from tests.conftest import Run
from tests.imported import files
from tests.imported.command import imported, rows


def own_rollouts(run: Run, folder: Path, iteration: int = 0, arm: str = "grpo") -> Path:
    """The rollouts of a run as a file of tokens and logprobs, in the notation of a stranger."""
    table = pl.read_parquet(run.results / arm / "s0" / f"iteration_{iteration:04d}" / "generate.parquet")
    train = pl.read_parquet(run.results / "prepare" / "train.parquet")
    joined = table.join(train.select("problem_id", "problem", "answer"), on="problem_id", maintain_order="left")
    names = ("problem_id", "problem", "answer", "prompt_tokens", "response_tokens", "response", "finish_reason")
    kept = joined.select(*names, uid="group_id", logprobs="sampler_logprobs")
    return files.lines(folder / "own.jsonl", kept.to_dicts())


def test_an_update_of_imported_rollouts_is_that_of_the_same_rollouts_sampled_here(
    mini_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = own_rollouts(mini_run, tmp_path)
    assert imported(f"grpo={file}", "--config", mini_run.config, "--update") == 0, capsys.readouterr().err
    theirs, mine = mini_run.results / "grpo/s0/iteration_0000", Path("results/x/grpo/s0/iteration_0000")
    same = [
        "rollout_id",
        "group_id",
        "prompt_tokens",
        "response_tokens",
        "sampler_logprobs",
        "finish_reason",
        "response",
    ]
    for name, columns in {
        "generate": same,
        "verify_generate": ["rollout_id", "verdict", "reward", "gold"],
        "score_entropy_generate": ["rollout_id", "policy_logprobs", "entropies"],
        "advantage": list(contracts.Advantages.columns()),
        "update": list(contracts.UpdateSteps.columns()),
    }.items():
        here, there = (pl.read_parquet(folder / f"{name}.parquet").select(columns) for folder in (mine, theirs))
        assert here.equals(there), name
    assert len(pl.read_parquet(mine / "update.parquet")) > 0
    manifests = [read_manifest(folder / "policy" / "manifest.json") for folder in (mine, theirs)]
    assert manifests[0]["files"]["model.safetensors"] == manifests[1]["files"]["model.safetensors"]
    assert main(["check", "results/x"]) == 0


def test_text_alone_is_scored_and_cut_but_not_trained_on(
    mini_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the sampler's logprobs: the model's own are computed, and whatever needs the sampler's is refused."""
    rows_ = [json.loads(line) for line in own_rollouts(mini_run, tmp_path).read_text().splitlines()]
    for row in rows_:
        for name in ("response_tokens", "logprobs", "prompt_tokens"):
            del row[name]
    file = files.lines(tmp_path / "text.jsonl", rows_)
    config = yaml.safe_load(mini_run.config.read_text())
    sections = {"groups": "all_hard", "when": "next_iteration", "rank": "low_mean_entropy"}
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(config | {"choose_prefixes": sections, "arms": {"grpo": {}}}))
    assert imported(f"grpo={file}", "--config", path, "--score") == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert f"{len(rows_)} rollouts have no sampler logprobs" in said
    found = rows("grpo/s0/iteration_0000")
    assert found["sampler_logprobs"].null_count() == len(rows_)
    assert found["policy_logprobs"].null_count() == 0
    sampled = pl.read_parquet(mini_run.results / "grpo/s0/iteration_0000/generate.parquet")
    text = sampled["response_tokens"].list.eval(pl.element().filter(pl.element() != 2)).to_list()
    assert found["response_tokens"].to_list() == text  # no end-of-sequence token is added
    prefixes = read_table(Path("results/x/grpo/s0/iteration_0000/choose_prefixes.parquet"), contracts.Prefixes)
    assert prefixes["prefix_logprobs"].null_count() == len(prefixes) > 0
    assert prefixes["score"].null_count() == 0
    summary = pl.read_parquet("results/x/grpo/s0/iteration_0000/summarize.parquet").row(0, named=True)
    assert summary["mismatch_mean"] is None
    assert summary["mean_entropy"] > 0
    assert imported(f"grpo={file}", "--config", path, "--update", "--force") == 2
    assert "were imported without the sampler's logprobs, first grpo/s0/i0/" in capsys.readouterr().err
    sections |= {"scores_from": "sampler", "rank": "low_mean_surprisal", "cut": "every_boundary"}
    path.write_text(yaml.safe_dump(config | {"choose_prefixes": sections, "arms": {"grpo": {}}}))
    assert imported(f"grpo={file}", "--config", path, "--score", "--force") == 2
    assert "was imported without the sampler's logprobs, which choose_prefixes.scores_from: sampler" in (
        capsys.readouterr().err
    )


def test_prefixes_without_logprobs_are_not_continued() -> None:
    from extra_rl.sampling.rollouts import continuation_plans

    row: dict[str, Any] = dict.fromkeys(contracts.Prefixes.columns())
    row |= {"prefix_id": "a/s0/i0/0/0@1", "group_id": "a/s0/i0/0", "problem_id": "p", "iteration": 0, "rank": 0}
    row |= {"prompt_tokens": [1], "prefix_tokens": [2], "cut_reason": "boundary", "chosen": True, "continuations": 1}
    row |= {"when": "next_iteration"}
    table = contracts.Prefixes.cast(pl.DataFrame([row], schema=contracts.Prefixes.create_empty().schema))
    with pytest.raises(ExtraError, match="its continuations could not be trained on"):
        continuation_plans(table, "next_iteration", "a/s0/i1")


def test_what_needs_weights_says_that_an_import_has_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files.verl(tmp_path / "verl")
    assert imported("verl", "--score") == 2
    assert "scoring needs the model that sampled: name it with --model" in capsys.readouterr().err
    assert main(["export", "results/x/warm_start", "out"]) == 2
    assert "this policy has no weights" in capsys.readouterr().err
    assert main(["fork", "results/x", "--at", "1", "--name", "y"]) == 2
    assert "results/x: is an import, which has no policies" in capsys.readouterr().err
    config = tmp_path / "c.yaml"
    model = {"source": "new", "tokenizer": "bytes"}
    raw = {"name": "x", "iterations": 1, "task": {"name": "math"}, "model": model}
    config.write_text(yaml.safe_dump(raw | {"novelty": {"measure": "policy"}}))
    assert imported("verl", "--config", config, "--force") == 2
    error = capsys.readouterr().err
    assert "results/x/warm_start/policy holds a tokenizer and no weights: its rollouts were imported without a" in error


def test_several_iterations_are_not_updated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files.verl(tmp_path / "verl", steps=(1, 2))
    assert imported("verl", "--update") == 2
    assert "--update takes the steps of one iteration, and the files have several" in capsys.readouterr().err


def test_evaluations_of_two_models_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files.verifiers(tmp_path / "a" / "results.jsonl")
    better = [json.loads(line) for line in (tmp_path / "a" / "results.jsonl").read_text().splitlines()]
    better[2]["completion"] = [{"role": "assistant", "content": r"\boxed{56}"}]
    files.lines(tmp_path / "b" / "results.jsonl", better)
    assert imported("base=a/results.jsonl", "tuned=b/results.jsonl", "--evaluations") == 0
    # Correct of three: 1 and 2 of base, 2 and 2 of tuned.
    table = read_table(Path("results/x/compare.parquet"), contracts.Comparison)
    found = {(row["policy"], row["k"]): row["pass_at_k"] for row in table.to_dicts()}
    expected = {("base", 1): 50.0, ("base", 3): 100.0, ("tuned", 1): 200 / 3, ("tuned", 3): 100.0}
    assert found == pytest.approx(expected, rel=1e-5)
    capsys.readouterr()
    assert main(["compare", "results/x"]) == 0
    assert re.search(r"tuned - base +pass@1 +\+?16\.7 ", capsys.readouterr().out)
    assert main(["check", "results/x"]) == 0
    other = [row for row in better if row["example_id"] == 0]
    files.lines(tmp_path / "b" / "results.jsonl", other)
    assert imported("base=a/results.jsonl", "tuned=b/results.jsonl", "--evaluations", "--force") == 2
    assert "were evaluated on different problems, so they cannot be compared" in capsys.readouterr().err
