"""Results of a run written by hand: as few tables as the report reads, with numbers that a test can compute."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from extra_rl.config.section import parse_config
from extra_rl.evaluation.figures import figures
from extra_rl.results import file_name
from extra_rl.run.execute import execute
from extra_rl.run.stage import Job
from extra_rl.tables import contracts
from extra_rl.tables.files import write_table
from stages import compare
from tests.stages.rows import frame

BENCHMARKS = ("A", "B")
PROBLEMS, SAMPLES = 4, 4

Right = Callable[[str, int, int], int]
"""(folder, seed, problem) -> how many of the four samples are right; folder of an arm or of a warm start."""


def footer(stage: str, config: Mapping[str, Any], **names: Any) -> dict[str, Any]:
    job = {"stage": stage, "version": 1, "config": dict(config), **names}
    return {"job": job, "inputs": {}, "packages": {"polars": "2.1.0"}}


def put(table: pl.DataFrame, path: Path, contract: Any, made_by: Mapping[str, Any]) -> None:
    """A table with the name that its place gives it, as a stage writes it."""
    write_table(table, path, contract, {**made_by, "name": file_name(path)})


def write_iteration(folder: Path, arm: str, seed: int, iteration: int, **figures_of: Any) -> None:
    """summarize.parquet of an iteration: 10 groups (6 incorrect, 3 mixed, 1 correct), 1,000 tokens unless given."""
    row = dict.fromkeys(contracts.IterationSummary.columns(), 0) | {
        "arm": arm,
        "seed": seed,
        "iteration": iteration,
        "rollouts": 40,
        "groups": 10,
        "all_incorrect": 6,
        "mixed": 3,
        "all_correct": 1,
        "pass_rate": 0.25,
        "mean_reward": figures_of.get("pass_rate", 0.25),
        "mean_numbers": None,
        "mean_entropy": 0.5,
        "mean_length": 20.0,
        "sampled_tokens": 1000,
        "total_sampled_tokens": 1000 * (iteration + 1),
        **figures_of,
    }
    table = frame(contracts.IterationSummary, [row])
    put(table, folder / "summarize.parquet", contracts.IterationSummary, footer("summarize", {}, arm=arm))


def write_record(folder: Path, cpu: float, stage: str = "update", device: float = 0.0) -> None:
    """The record of a stage in an iteration: CPU-seconds, twice as many wall seconds, and device-seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "stage": stage,
        "cpu_s": cpu,
        "wall_s": 2 * cpu,
        "device_s": device,
        "started": "2026-01-01T00:00:00+00:00",
    }
    (folder / f"{stage}.run.json").write_text(json.dumps(record))


def samples(right_of: Callable[[int], int], response: str = "x") -> pl.DataFrame:
    """An evaluation of PROBLEMS problems a benchmark, SAMPLES samples each; right ones have texts of their own."""
    rows = [
        {
            "problem_id": f"{benchmark}/{problem}",
            "sample_index": n,
            "benchmark": benchmark,
            "prompt_tokens": [1],
            "response_tokens": [2],
            "finish_reason": "stop",
            "gold": "7",
            "extracted": "7",
            "response": f"{response} {n}" if n < right_of(problem) else response,
            "verdict": "right" if n < right_of(problem) else "wrong",
            "rule": "by hand",
        }
        for benchmark in BENCHMARKS
        for problem in range(PROBLEMS)
        for n in range(SAMPLES)
    ]
    return frame(contracts.EvaluationSamples, rows)


def write_evaluation(folder: Path, table: pl.DataFrame) -> None:
    put(table, folder / "evaluate.parquet", contracts.EvaluationSamples, footer("evaluate", {"samples": 4}))
    put(figures(table), folder / "evaluate_figures.parquet", contracts.EvaluationFigures, footer("evaluate", {}))


def write_results(
    root: Path,
    folders: Sequence[str],
    seeds: Sequence[int],
    right: Right,
    *,
    iterations: int = 2,
    regimes: Mapping[str, float] | None = None,
    warm_starts: Sequence[int] = (0,),
    comparisons: Sequence[str] = (),
    compared: bool = True,
    figures_of: Callable[[str, int, int], Mapping[str, Any]] = lambda folder, seed, iteration: {},
    cpu_of: Callable[[str, int], float] | None = None,
) -> Path:
    """A run's results. folders: of arms, `<regime>-<arm>` where there are regimes.

    cpu_of: CPU-seconds of each iteration of a folder and seed; without it there are no run records.
    """
    inputs: dict[str, Path] = {}
    for number in warm_starts:
        name = f"warm_start_{number}" if number else "warm_start"
        write_evaluation(root / name, samples(lambda problem, name=name: right(name, -1, problem)))
        inputs[f"evaluate:{name}"] = root / name / "evaluate.parquet"
    for folder in folders:
        for seed in seeds:
            for iteration in range(iterations):
                place = root / folder / f"s{seed}" / f"iteration_{iteration:04d}"
                write_iteration(place, folder, seed, iteration, **figures_of(folder, seed, iteration))
                if cpu_of is not None:
                    write_record(place, cpu_of(folder, seed))
            write_evaluation(place, samples(lambda problem, f=folder, s=seed: right(f, s, problem)))
            inputs[f"evaluate:{folder}/s{seed}"] = place / "evaluate.parquet"
            inputs[f"summarize:{folder}/s{seed}"] = place / "summarize.parquet"
    if compared:
        section = {
            "ks": [1, 4],
            "resamples": 100,
            "comparisons": list(comparisons),
        }
        derived = {"seeds": list(seeds), "warm_starts": list(warm_starts), "regimes": dict(regimes or {})}
        run_compare(root, inputs, section, derived)
    return root


def run_compare(root: Path, inputs: Mapping[str, Path], section: Mapping[str, Any], derived: Mapping[str, Any]) -> None:
    """The real stage `compare` over what was written."""
    config = parse_config(compare.Config, section, "compare").model_dump(mode="json")
    names = ("compare", "compare_seeds", "compare_differences")
    outputs = {name: root / f"{name}.parquet" for name in names} | {"summary": root / "summary.json"}
    job = Job("compare", compare.STAGE.version, 0, config, derived=dict(derived))
    execute(compare.STAGE, compare.Config, compare.run, job, inputs, outputs, None)
