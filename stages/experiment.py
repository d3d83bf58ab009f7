"""Functions of the Snakefile: the resolved experiment, the param of a rule, and what happens before the first job."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from extra_rl.config.derived import derive, in_force_since
from extra_rl.config.experiment import Experiment, resolve
from extra_rl.config.files import refuse_ambiguous
from extra_rl.config.selection import select, split
from extra_rl.errors import ConfigError, ExtraError
from extra_rl.models.retention import Retention
from extra_rl.preflight.faults import has_training_problems, refuse_faults
from extra_rl.preflight.hub import on_hub
from extra_rl.results import run_name, start_folder
from extra_rl.run.configuration import keep_configuration
from extra_rl.run.context import Guards, Horizon, RunContext
from extra_rl.run.records import code_state, code_version
from extra_rl.run.stage import Job
from extra_rl.sampling.vllm import run_engine
from extra_rl.tables.files import canonical_json, write_whole
from extra_rl.tracking.store import FOLDER, RUN_FILE, identifier_in
from extra_rl.worker import client, launch, tether
from stages import STAGES
from stages.load import load
from stages.pipeline import STEPS

Result = TypeVar("Result")

PRELOAD = (
    "stages.command",
    "stages.cell_process",
    *(f"stages.{stage}" for stage in STAGES),
    # What the stages import inside of functions.
    "extra_rl.models.embedding",
    "extra_rl.sampling.plain",
    "extra_rl.sampling.transformers",
    "extra_rl.scoring.packed",
    "extra_rl.tasks.sets",
    "extra_rl.training.trainer",
)
"""The project's modules that the worker imports once. A job imports them again if one of their files has changed."""


def experiment_of(
    raw: Mapping[str, Any], files: Iterable[str | Path] = (), configured: Iterable[str | Path] = ()
) -> Experiment:
    """Validate a raw configuration, as Snakemake has read it, and take the part of it that runs.

    Args:
        raw: the configuration. Texts instead of `arms` or `seeds` select some (`extra_rl.config.selection`).
        files: those that it was read from.
        configured: those in which the arms and seeds of a selection are found; `files` if empty.
    Raises ConfigError, which lists all mistakes; what YAML changes in silence comes first.
    """
    files = list(files)
    refuse_ambiguous(map(Path, files))
    whole, selection = split(raw, list(configured) or files)
    return select(resolve(with_nulls(whole), {name: load(name).Config for name in STAGES}), selection)


def whole_configuration(raw: Mapping[str, Any], configured: Iterable[str | Path]) -> dict[str, Any]:
    """Return the configuration without the selection of arms and seeds; arguments as in `experiment_of`."""
    whole: dict[str, Any] = with_nulls(split(raw, configured)[0])
    return whole


def keep_configuration_of(raw: Mapping[str, Any], configured: Iterable[str | Path], results: Path) -> None:
    """Keep the whole configuration in the results of the run; arguments as in `experiment_of`."""
    keep_configuration(whole_configuration(raw, configured), results)


def with_nulls(value: Any) -> Any:
    """Replace the text `null` by None: Snakemake reads values of `--config` within braces as text."""
    if isinstance(value, Mapping):
        return {key: with_nulls(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_nulls(inner) for inner in value]
    return None if value == "null" else value


def preflight(experiment: Experiment, results: Path, *, packages: bool, trackers: bool = True) -> None:
    """Check the files, folders, commands and packages that the configuration names; ConfigError lists all faults.

    Args:
        experiment: the validated configuration.
        results: the folder of the run; what it holds already is not checked again.
        packages: whether the stages run in this environment, so that optional packages must be installed here.
        trackers: the same of the tracking jobs.
    """
    starts = [results / start_folder(start) / "policy" / "manifest.json" for start in experiment.run.starts]
    problems = not (results / "prepare" / "train.parquet").exists()
    model = not all(path.exists() for path in starts)
    refuse_faults(
        experiment.with_phases_as_arms(),
        results,
        problems=problems,
        model=model,
        packages=packages,
        trackers=trackers,
    )
    for line in on_hub(experiment.common["prepare"], problems=problems, model=model):
        print(f"NOTE: {line}", file=sys.stderr)


def refuse_without_training(experiment: Experiment) -> None:
    """Raise ConfigError where the configuration names no problems to train on, so that it can only evaluate."""
    if not has_training_problems(experiment.common["prepare"]):
        raise ConfigError(
            "there are no training problems: set prepare.train_per_level (generated tasks, reasoning_gym) or "
            "task.train (math). `snakemake evaluate` needs none."
        )


def job_json(experiment: Experiment, stage: str, wildcards: Mapping[str, str]) -> str:
    """Return the canonical JSON of one job.

    A job that all arms share has neither arm nor seed, so that it runs once; an initial policy has its own seed
    (wildcard `start`).
    """
    arm, starts = wildcards.get("arm", ""), {start_folder(start): start for start in experiment.run.warm_starts}
    iteration = int(wildcards.get("iteration", 0))
    sections = experiment.at(arm, iteration) if arm else experiment.common
    return Job(
        stage=stage,
        version=load(stage).STAGE.version,
        seed=int(wildcards.get("seed", starts.get(wildcards.get("start", ""), 0))),
        config=sections[stage],
        arm=arm,
        iteration=iteration,
        shard=wildcards.get("shard", ""),
        derived=derive(experiment, stage, arm, iteration),
        since=in_force_since(experiment, stage, arm, iteration) if arm else 0,
    ).to_json()


def jobs_json(experiment: Experiment, wildcards: Mapping[str, str]) -> str:
    """Return the canonical JSON of all jobs of an iteration, by stage."""
    stages = {step.stage for step in STEPS}
    return canonical_json({stage: json.loads(job_json(experiment, stage, wildcards)) for stage in stages})


def run_context(experiment: Experiment) -> RunContext:
    """Return the context of the run, whose values change no byte of a stage and are no part of a param."""
    run = experiment.run
    tokens, compute = (
        max(sections["select"][key] or 0 for sections in experiment.arms.values())
        for key in ("token_budget", "compute_budget")
    )
    return RunContext(
        horizon=Horizon(run.iterations, tokens, compute),
        code=code_version(),
        cells=tuple(run_name(arm, seed) for arm in experiment.arms for seed in run.seeds),
        retention=Retention(
            **run.retention.model_dump(), evaluate_every=run.evaluate_every, first_iteration=run.first_iteration
        ),
        guards=Guards(run.on_mismatch, run.mismatch_tolerance, run.stop_without_signal),
    )


def tracking_json(experiment: Experiment) -> str:
    """Return the section `tracking` as canonical JSON: the param of the tracking rules."""
    return canonical_json(experiment.run.tracking.model_dump(mode="json"))


def write_about(experiment: Experiment, results: Path) -> None:
    """Write the file that tells trackers the configuration and the version of the code; nothing without a tracker."""
    run = experiment.run.model_dump(mode="json", exclude={"tracking"})  # an address may contain a password
    if experiment.run.tracking.to:
        path = results / FOLDER / RUN_FILE
        about = {"id": identifier_in(path), "run": run, "code": code_state(), "arms": experiment.arms}
        text = canonical_json(about) + "\n"
        write_whole(path, lambda tmp: tmp.write_text(text))


def logs_of(experiment: Experiment) -> Path:
    """Return the folder of the logs of worker and engines; each arm and seed has its own where it is a job."""
    cells = Path(".snakemake") / "cells" / experiment.run.name / experiment.cell
    return cells if experiment.cell else Path(".snakemake")


def start_worker(logs: Path) -> None:
    """Start the warm worker from this process (Snakemake's), unless EXTRA_WORKER names one that listens already.

    With EXTRA_COLD set there is none, and stages run cold. logs: folder of its log.
    """
    os.environ[tether.RUN_VARIABLE] = tether.this_process()
    if not os.environ.get("EXTRA_COLD") and not client.listens():
        launch.start(logs, preload_extra=PRELOAD)


def open_engines(experiment: Experiment, logs: Path) -> None:
    """Let the stages start engines that live as long as this process (Snakemake's), where one samples with vLLM.

    logs: folder of their logs.
    """
    sections = [*experiment.common.values(), *(s for arm in experiment.arms.values() for s in arm.values())]
    if any(section.get("sampling", {}).get("backend") == "vllm" for section in sections):
        run_engine.open_folder(logs)


def in_turn(*functions: Callable[[str], None]) -> Callable[[str], None]:
    """Return one handler that calls all functions with its argument, in this order."""

    def call(log: str) -> None:
        for function in functions:
            function(log)

    return call


def end_in_a_thread() -> None:
    """Let the present handler of SIGTERM, which is Snakemake's, run in a thread.

    It takes a lock that the main thread holds while it selects jobs. Python runs handlers in the main thread, which
    would then wait for itself, and the run would never end.
    """
    handler = signal.getsignal(signal.SIGTERM)
    if callable(handler) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *given: threading.Thread(target=handler, args=given, daemon=True).start())


def use_this_python() -> None:
    """Make `python` in shell commands the interpreter of Snakemake, even where its environment is not activated."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"


def or_exit(function: Callable[..., Result], *arguments: object, **settings: object) -> Result:
    """Return the function's result. An error of the user prints its message, without the traceback of Snakemake."""
    try:
        return function(*arguments, **settings)
    except ExtraError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
