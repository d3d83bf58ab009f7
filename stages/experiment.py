"""What the Snakefile asks of the configuration: the resolved experiment and the param of a rule."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from extra_rl.config.experiment import BUDGETS, Experiment, resolve
from extra_rl.errors import ExtraError
from extra_rl.models.retention import ANNOUNCED, Retention
from extra_rl.report.summary_line import HORIZON
from extra_rl.results import start_folder
from extra_rl.run import guards
from extra_rl.run.guards import Guards
from extra_rl.run.stage import Job
from extra_rl.sampling.vllm import run_engine
from extra_rl.tables.files import canonical_json
from extra_rl.worker import launch
from stages import STAGES
from stages.load import load
from stages.pipeline import STEPS

Result = TypeVar("Result")


def experiment_of(raw: Mapping[str, Any]) -> Experiment:
    """The validated experiment of a raw configuration, as Snakemake has read it."""
    return resolve(with_nulls(raw), {name: load(name).Config for name in STAGES})


def with_nulls(value: Any) -> Any:
    """Snakemake reads what `--config` says inside of braces as text (YAML's base loader): there `null` is a word."""
    if isinstance(value, Mapping):
        return {key: with_nulls(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_nulls(inner) for inner in value]
    return None if value == "null" else value


def job_json(experiment: Experiment, stage: str, wildcards: Mapping[str, str]) -> str:
    """The canonical JSON of one job. What arms share has neither arm nor seed, so that it is made once; an initial
    policy has its own seed (wildcard `start`)."""
    arm, starts = wildcards.get("arm", ""), {start_folder(start): start for start in experiment.run.warm_starts}
    sections = experiment.arms[arm] if arm else experiment.common
    return Job(
        stage=stage,
        version=load(stage).STAGE.version,
        seed=int(wildcards.get("seed", starts.get(wildcards.get("start", ""), 0))),
        config=sections[stage],
        arm=arm,
        iteration=int(wildcards.get("iteration", 0)),
        shard=wildcards.get("shard", ""),
    ).to_json()


def jobs_json(experiment: Experiment, wildcards: Mapping[str, str]) -> str:
    """The canonical JSON of all jobs of an iteration, by stage."""
    stages = {step.stage for step in STEPS}
    return canonical_json({stage: json.loads(job_json(experiment, stage, wildcards)) for stage in stages})


def announce(experiment: Experiment) -> None:
    """Tells the stages what changes none of their bytes and so is no part of a param: how far the run goes, for the
    time left on their lines (`summary_line.HORIZON`), which policies may go (`retention.ANNOUNCED`), and what ends the
    run (`guards.ANNOUNCED`)."""
    run = experiment.run
    budgets = (max(sections["select"][key] or 0 for sections in experiment.arms.values()) for key in BUDGETS)
    os.environ[HORIZON] = ",".join(map(str, (run.iterations, *budgets)))
    retention = Retention(**run.retention.model_dump(), **run.model_dump(include={"evaluate_every", "first_iteration"}))
    os.environ[ANNOUNCED] = retention.to_json()
    checks = Guards(run.on_mismatch, run.mismatch_tolerance, run.stop_without_signal)
    os.environ[guards.ANNOUNCED] = checks.to_json()


def start_worker() -> None:
    """Starts the warm worker in this process (Snakemake's), unless EXTRA_COLD is set: every stage then runs cold."""
    if not os.environ.get("EXTRA_COLD"):
        launch.start(Path(".snakemake"))


def open_engines(experiment: Experiment) -> None:
    """Lets the stages start engines that live as long as this process (Snakemake's), where one samples with vLLM."""
    sections = [*experiment.common.values(), *(s for arm in experiment.arms.values() for s in arm.values())]
    if any(section.get("sampling", {}).get("backend") == "vllm" for section in sections):
        run_engine.open_folder(Path(".snakemake"))


def in_turn(*functions: Callable[[str], None]) -> Callable[[str], None]:
    """One handler that calls all of them with its argument, in this order."""

    def call(log: str) -> None:
        for function in functions:
            function(log)

    return call


def use_this_python() -> None:
    """Makes `python` in shell commands the interpreter that runs Snakemake, activated environment or not."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"


def or_exit(function: Callable[..., Result], *arguments: object) -> Result:
    """The function's result. A user's error is its message alone, without the traceback that Snakemake would add."""
    try:
        return function(*arguments)
    except ExtraError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
