"""What vLLM costs beyond sampling: engines of the stages' own against the run's engine.

    make .venv-vllm/ready
    .venv-vllm/bin/python benchmarks/engine.py

One arm with continuations in the same iteration (`preset: paper`) and an evaluation of every iteration, on the policy
of tests/data/policy, through the workflow with `--cores 1`, first one way and then the other. Printed for every
sampling stage: seconds until its sampler was ready (reading the policy, engine, weights, probe). The evaluation of the
warm start pays the start of the run's engine; the last line compares the iterations.
"""

from __future__ import annotations

import os
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


def opening_seconds(own: bool) -> list[dict[str, float]]:
    """Of every iteration: stage -> seconds until its sampler was ready."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(yaml.safe_dump(configuration()))
        environment = dict(os.environ, **({"EXTRA_OWN_ENGINES": "1"} if own else {}))
        command = [sys.executable, "-m", "snakemake", "--cores", "1", "--directory", folder]
        command += ["--snakefile", str(ROOT / "workflow" / "Snakefile"), "--configfile", str(path)]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        arm = Path(folder) / "results" / "engine" / "extra" / "s0"
        return [of_iteration(arm / f"iteration_{i:04d}") for i in range(ITERATIONS)]


def of_iteration(folder: Path) -> dict[str, float]:
    found = [r for r in records(folder) if OPENING_SECONDS in r["figures"]]
    return {r["stage"]: r["figures"][OPENING_SECONDS] for r in found}


def main() -> None:
    ways = {"own": opening_seconds(own=True), "run's": opening_seconds(own=False)}
    for name, iterations in ways.items():
        for i, stages in enumerate(iterations):
            shown = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in stages.items())
            print(f"{name:<6} iteration {i}: {sum(stages.values()):6.2f} s ({shown})", flush=True)
    own, run = (median(sum(stages.values()) for stages in iterations) for iterations in ways.values())
    print(f"engine overhead of an iteration, median: own {own:.2f} s, run's {run:.2f} s, ratio {own / run:.1f}")


if __name__ == "__main__":
    main()
