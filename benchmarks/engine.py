"""What vLLM costs beyond sampling: seconds until the run's engine is ready for each stage.

    make .venv-vllm/ready
    .venv-vllm/bin/python benchmarks/engine.py

One arm with continuations in the same iteration (`preset: paper`) and an evaluation of every iteration, on the policy
of tests/data/policy, through the workflow with `--cores 1`. Printed for every sampling stage: seconds until its sampler
was ready (reading the policy, weights, probe). The evaluation of the warm start pays the start of the engine.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from extra_rl.run.records import OPENING_SECONDS, records

ROOT = Path(__file__).parents[1]
ITERATIONS = 4


def configuration() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT / "config" / "tiny.yaml").read_text())
    config |= {"name": "engine", "iterations": ITERATIONS, "evaluate_every": 1, "arms": {"extra": {"preset": "paper"}}}
    config["model"] = {"source": str(ROOT / "tests" / "data" / "policy"), "context_tokens": 96}
    config["warm_start"] = {}
    config["sampling"] |= {"backend": "vllm", "batch_rows": 256}
    config["select"] |= {"token_budget": None}
    return config


def opening_seconds() -> list[dict[str, float]]:
    """Of every iteration: stage -> seconds until its sampler was ready."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(yaml.safe_dump(configuration()))
        command = [sys.executable, "-m", "snakemake", "--cores", "1", "--directory", folder]
        command += ["--snakefile", str(ROOT / "workflow" / "Snakefile"), "--configfile", str(path)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        arm = Path(folder) / "results" / "engine" / "extra" / "s0"
        return [of_iteration(arm / f"iteration_{i:04d}") for i in range(ITERATIONS)]


def of_iteration(folder: Path) -> dict[str, float]:
    found = [r for r in records(folder) if OPENING_SECONDS in r["figures"]]
    return {r["stage"]: r["figures"][OPENING_SECONDS] for r in found}


def main() -> None:
    iterations = opening_seconds()
    for i, stages in enumerate(iterations):
        shown = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in stages.items())
        print(f"iteration {i}: {sum(stages.values()):6.2f} s ({shown})", flush=True)
    print(f"engine overhead of an iteration, median: {median(sum(stages.values()) for stages in iterations):.2f} s")


if __name__ == "__main__":
    main()
