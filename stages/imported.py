"""Runs stages on imported rollouts (`extra import`), from files to files, with the runner of every other job."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from extra_rl.config.experiment import Experiment
from extra_rl.errors import ConfigError
from extra_rl.results import RunFolder, start_folder
from extra_rl.run.execute import execute
from extra_rl.run.stage import Job
from stages.experiment import job_json
from stages.iteration import run_step
from stages.load import load
from stages.pipeline import STEPS

JUDGED = ("verify", "novelty", "advantage", "summarize")
SCORED = ("score_entropy", "choose_prefixes")


def raw_config(
    raw: Mapping[str, Any], name: str, cells: Mapping[str, Collection[int]], iterations: int, samples: int | None = None
) -> dict[str, Any]:
    """Return the configuration of an import: the sections of a user's, with the arms, seeds and length of the files.

    The task `math` needs problems in every configuration: without benchmarks of the user's they are the imported ones.

    Args:
        raw: the user's configuration; an arm of the same name keeps its diff, and the entries of `schedule` for
            iterations and arms of the files hold.
        name: of the results folder.
        cells: arm -> seeds.
        iterations: of the longest arm.
        samples: of each problem in evaluations, whose pass@1 and pass@samples are compared; None: not compared.
    """
    left = {key: value for key, value in raw.items() if key not in ("regimes", "warm_starts", "first_iteration")}
    if isinstance(left.get("compare"), dict):  # its comparisons name other arms
        left["compare"] = {key: value for key, value in left["compare"].items() if key != "comparisons"}
    if samples is not None:
        left["compare"] = {**(left.get("compare") or {}), "ks": sorted({1, samples})}
        left["evaluate"] = {**(left.get("evaluate") or {}), "samples": samples}
    if isinstance(left.get("schedule"), list):
        left["schedule"] = [kept for entry in left["schedule"] if (kept := _entry(entry, cells, iterations))]
    task = left.get("task")
    if isinstance(task, dict) and task.get("name") == "math" and not task.get("benchmarks"):
        left["task"] = {**task, "benchmarks": {"imported": {"path": f"results/{name}/prepare/train.parquet"}}}
    arms = raw.get("arms") if isinstance(raw.get("arms"), Mapping) else {}
    assert isinstance(arms, Mapping)
    return {
        **left,
        "name": name,
        "seeds": sorted({seed for seeds in cells.values() for seed in seeds}),
        "iterations": iterations,
        "arms": {arm: arms.get(arm) or {} for arm in cells},
    }


def _entry(entry: Any, cells: Mapping[str, Collection[int]], iterations: int) -> Any:
    """Return an entry of `schedule` for the arms of the files; None where it concerns no iteration or arm of theirs.

    A malformed entry is returned as it is: the check of the configuration says what is wrong.
    """
    if not isinstance(entry, Mapping):
        return entry
    start, arms = entry.get("from"), entry.get("arms")
    if isinstance(start, int) and start >= iterations:
        return None
    if not isinstance(arms, list) or not arms:
        return entry
    there = [arm for arm in arms if arm in cells]
    return {**entry, "arms": there} if there else None


def run_stages(
    results: Path, experiment: Experiment, *, verify: bool = True, score: bool = False, update: bool = False
) -> None:
    """Run the stages on every iteration of an import, in order.

    Args:
        results: the folder of the import.
        experiment: sections of its arms.
        verify: judge by the task's verifier; False: the verdicts are there.
        score: take the configuration's model as the policy, and score the responses with it.
        update: take the optimizer steps of the first iteration.
    Raises ConfigError where several iterations are to be updated, and what the stages raise.
    """
    cells = {run: run.iterations() for run in RunFolder.below(results)}
    if update and any(len(folders) > 1 for folders in cells.values()):
        raise ConfigError(
            "--update takes the steps of one iteration, and the files have several: the later ones were sampled by "
            "policies that are not here. Import one step (a single file)."
        )
    if score:
        make_policy(results, experiment)
    stages = {*JUDGED, *(SCORED if score else ()), *(("update",) if update else ())} - (set() if verify else {"verify"})
    manifest = str(results / start_folder(0) / "policy" / "manifest.json")
    given = {"train": str(results / "prepare" / "train.parquet"), "policy": manifest, "initial": manifest}
    for run, folders in cells.items():
        previous = ""
        for number, folder in folders.items():
            place = {"arm": run.arm, "seed": str(run.seed), "iteration": str(number)}
            for step in STEPS:
                if step.stage in stages:
                    job = Job.from_json(job_json(experiment, step.stage, place))
                    run_step(step, job, given, str(folder), previous)
            previous = str(folder)


def compare(results: Path, experiment: Experiment, evaluated: Mapping[str, Path]) -> None:
    """Run the stage `compare`. evaluated: `{arm}/s{seed}` -> table `evaluate` of its last iteration."""
    module = load("compare")
    job = Job.from_json(job_json(experiment, "compare", {}))
    inputs = {f"evaluate:{label}": path for label, path in evaluated.items()}
    inputs |= {f"summarize:{label}": path.with_name("summarize.parquet") for label, path in evaluated.items()}
    outputs = {role: results / f"{role}.parquet" for role in module.STAGE.writes} | {
        "summary": results / "summary.json"
    }
    execute(module.STAGE, module.Config, module.run, job, inputs, outputs, results / "logs" / "compare.log")


def make_policy(results: Path, experiment: Experiment) -> None:
    """Replace the tokenizer of an import by the configuration's model. ConfigError where it names none."""
    section = experiment.common["warm_start"]
    if section["model"]["source"] == "new" and not section["steps"]:
        raise ConfigError("scoring needs the model that sampled: name it with --model, or as model.source of --config.")
    module, start = load("warm_start"), start_folder(0)
    job = Job.from_json(job_json(experiment, "warm_start", {"start": start}))
    inputs = {"held_out": results / "prepare" / "held_out.parquet"}
    folder = results / start
    outputs = {"warm_start": folder / "warm_start.parquet", "policy": folder / "policy" / "manifest.json"}
    execute(module.STAGE, module.Config, module.run, job, inputs, outputs, results / "logs" / f"{start}.log")
