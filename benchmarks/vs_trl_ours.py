"""Our half of benchmarks/vs_trl.py: a run of the real workflow, and what its iterations cost.

A step is an iteration, from the end of the former iteration's last stage to the end of its own: every stage, every
file, every check, the clients and Snakemake's scheduling. What happens once a run (Snakemake's start, the warm worker,
problems, the first policy) is before the first iteration, and the first iteration is not counted.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from benchmarks.vs_trl_watch import Watch
from extra_rl.run.records import records

ROOT = Path(__file__).parents[1]
PARTS = {
    "select": "sampling",
    "generate": "sampling",
    "regenerate": "sampling",
    "verify_generate": "scoring",
    "verify_regenerate": "scoring",
    "score_entropy_generate": "scoring",
    "score_entropy_regenerate": "scoring",
    "update": "update",
}
"""Part of each stage; the others are `other`."""


AS_TRL = {"dual_clip": None, "importance_cap": None, "minibatches": 1, "betas": [0.9, 0.999]}
"""`update` as TRL does it in vs_trl_peer.py: one update an iteration, no dual clip, no importance weight. No KL either,
by our own default."""


def configuration(asked: dict[str, Any], problems: Path, held_out: Path) -> dict[str, Any]:
    """GRPO on the problems of a tiny model's turn, which are in files."""
    prompts = len(asked["prompts"][0])
    return {
        "name": "vs_trl",
        "seeds": [asked["seed"]],
        "iterations": len(asked["prompts"]),
        "compute": {"threads": asked["threads"], "device": "cpu"},
        "task": {
            "name": "math",
            "train": {"words": {"path": str(problems)}},
            "benchmarks": {"none": {"path": str(held_out)}},  # never evaluated
        },
        "model": {"source": asked["model"], "context_tokens": asked["limit"] + 64},
        "sampling": {"max_response_tokens": asked["limit"], "batch_rows": prompts * asked["group"]},
        "score_entropy": {"tokens_per_batch": asked["tokens_per_pass"]},
        "select": {"prompts": prompts},
        "generate": {"group_size": asked["group"]},
        "update": {
            **AS_TRL,
            "tokens_per_batch": asked["tokens_per_pass"],
            "learning_rate": asked["learning_rate"],
        },
        "arms": {"grpo": {}},
    }


def prepared(asked: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The configuration of a tiny model's turn in `folder`, with its files of problems."""
    problems, held_out = folder / "problems.jsonl", folder / "held_out.jsonl"
    write_problems(problems, [problem for step in asked["prompts"] for problem in step])
    write_problems(held_out, [("w9", "0")])
    return configuration(asked, problems, held_out)


def run(
    config: dict[str, Any], folder: Path, limit_s: float, but: int = 0
) -> tuple[list[dict[str, Any]], float, float]:
    """Steps of a fresh run in `folder`, as vs_trl_peer.py answers; peak memory of all its processes in MB; seconds
    from Snakemake's start to the first iteration's first stage. but: a child of this process that is no part of it.

    Raises as `snakemake`.
    """
    last = f"{arm_of(config)}/iteration_{config['iterations'] - 1:04d}"
    targets = [f"{last}/summarize.parquet", f"{last}/policy/manifest.json"]
    begin = datetime.now().timestamp()
    watch = snakemake(config, targets, folder, limit_s, but)
    iterations = iterations_of(config, folder)
    steps = [step_of(before, after, watch) for before, after in itertools.pairwise(iterations)]
    started = min(start_of(record) for record in records(iterations[0]))
    return steps, watch.peak_mb, started - begin


def snakemake(config: dict[str, Any], targets: Sequence[str], folder: Path, limit_s: float, but: int = 0) -> Watch:
    """Make the targets in `folder`; what its processes cost.

    Raises subprocess.TimeoutExpired after `limit_s`, CalledProcessError where the run fails.
    """
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    command = [str(Path(sys.executable).parent / "snakemake"), "--snakefile", str(ROOT / "workflow" / "Snakefile")]
    command += ["--directory", str(folder), "--configfile", str(file), "--cores", str(config["compute"]["threads"])]
    command += targets
    environment = {key: value for key, value in os.environ.items() if not key.startswith("EXTRA_")}
    with (folder / "snakemake.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            with Watch(but) as watch:
                code = process.wait(limit_s)
        finally:
            process.kill()
            process.wait()
    if code:
        print((folder / "snakemake.log").read_text()[-3000:], file=sys.stderr)
        raise subprocess.CalledProcessError(code, command)
    return watch


def arm_of(config: dict[str, Any]) -> str:
    return f"results/{config['name']}/grpo/s{config['seeds'][0]}"


def iterations_of(config: dict[str, Any], folder: Path) -> list[Path]:
    """Folders of the iterations of a run, in order."""
    return sorted((folder / arm_of(config)).glob("iteration_*"))


def write_problems(path: Path, problems: Sequence[tuple[str, str]]) -> None:
    rows = [{"id": str(i), "problem": text, "answer": gold} for i, (text, gold) in enumerate(problems)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def step_of(before: Path, iteration: Path, watch: Watch) -> dict[str, Any]:
    """Costs of an iteration that follows on another."""
    found = records(iteration)
    begin, end = (max(start_of(record) + record["wall_s"] for record in of) for of in (records(before), found))
    parts = dict.fromkeys(("sampling", "scoring", "update", "other"), (0.0, 0.0))
    for record in found:
        part = PARTS.get(Path(record["path"]).name.removesuffix(".run.json"), "other")
        parts[part] = (parts[part][0] + record["wall_s"], parts[part][1] + record["cpu_s"])
    wall, cpu = end - begin, watch.cpu_at(end) - watch.cpu_at(begin)
    stages = [sum(cost[i] for cost in parts.values()) for i in (0, 1)]
    rollouts = pl.read_parquet(iteration / "generate.parquet")
    return {
        "wall_s": wall,
        "cpu_s": cpu,
        "parts": {**parts, "between": (wall - stages[0], cpu - stages[1])},
        "tokens": rollouts["response_tokens"].list.len().sum(),
        "reward": pl.read_parquet(iteration / "verify_generate.parquet")["reward"].mean(),
        "largest_mb": max(record["peak_memory_mb"] for record in found),
    }


def start_of(record: dict[str, Any]) -> float:
    return datetime.fromisoformat(record["started"]).timestamp()
