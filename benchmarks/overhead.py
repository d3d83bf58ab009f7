"""What the pipeline costs beyond what its stages compute.

    python benchmarks/overhead.py

One arm (`extra`), `--cores 1`, no evaluation of arms. Three runs on the policy of tests/data/policy:
  reference  320 prompts x 8: at least 10 s of compute an iteration; its ratio is the figure to watch
  tiny       24 prompts x 8, as in config/tiny.yaml: small stages, where overhead weighs most
  cold       the tiny load without the warm worker
Printed per run: seconds per job beyond its own run() (from one start to the next, less run(): reading,
checking, writing, the client, Snakemake), the same from the stage's own record alone, and
ratio = wall of the iterations / sum of their run().
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from extra_rl.run.records import records

ROOT = Path(__file__).parents[1]
ITERATIONS = 3


def configuration(prompts: int) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT / "config" / "tiny.yaml").read_text())
    config |= {"name": "overhead", "iterations": ITERATIONS, "arms": {"extra": {"preset": "prototype"}}}
    config["model"] = {"source": str(ROOT / "tests" / "data" / "policy"), "context_tokens": 96}
    config["warm_start"] = {}
    config["select"] |= {"prompts": prompts, "token_budget": None}
    return config


def run(name: str, prompts: int, cold: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder)
        config = workdir / "config.yaml"
        config.write_text(yaml.safe_dump(configuration(prompts)))
        environment = dict(os.environ, **({"EXTRA_COLD": "1"} if cold else {}))
        last = f"results/overhead/extra/s0/iteration_{ITERATIONS - 1:04d}/summarize.parquet"
        command = [str(Path(sys.executable).parent / "snakemake"), "--snakefile", str(ROOT / "workflow" / "Snakefile")]
        command += ["--directory", folder, "--configfile", str(config), "--cores", "1", last]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        report(name, records(workdir / "results" / "overhead" / "extra", "s0/iteration_*/*.run.json"))


def report(name: str, found: list[dict[str, Any]]) -> None:
    jobs = sorted(found, key=lambda r: r["started"])
    starts = [datetime.fromisoformat(r["started"]).timestamp() for r in jobs]
    beyond = [b - a - job["run_s"] for a, b, job in zip(starts, starts[1:], jobs, strict=False)]
    inside = [job["wall_s"] - job["run_s"] for job in jobs]
    computed = sum(job["run_s"] for job in jobs)
    wall = starts[-1] + jobs[-1]["wall_s"] - starts[0]
    print(
        f"{name:<10} {len(jobs)} jobs, compute {computed / ITERATIONS:.2f} s an iteration | beyond run(): median "
        f"{statistics.median(beyond):.3f} s a job (of it inside the stage {statistics.median(inside):.3f}) | "
        f"ratio {wall / computed:.2f}",
        flush=True,
    )


if __name__ == "__main__":
    run("reference", 320, cold=False)
    run("tiny", 24, cold=False)
    run("cold", 24, cold=True)
