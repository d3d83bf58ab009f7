"""All stages of an iteration in one process: `python -m stages iteration`, for `granularity: iteration`.

Every stage reads and writes the same files as a separate job, with its own record and log. One process saves the start
of a dozen, which takes longer than the stages of a small model.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from extra_rl.errors import ConfigError
from extra_rl.run.execute import execute
from extra_rl.run.stage import Job
from stages.load import load
from stages.pipeline import STEPS, Step, inputs_of, outputs_of, unread


def main(argv: list[str]) -> None:
    """Run the stages; raise what they raise. The files of the stages before a failing one stay."""
    parser = argparse.ArgumentParser(prog="python -m stages iteration", description=__doc__)
    parser.add_argument("--jobs", required=True, help="canonical JSON: the job of every stage, by its name")
    parser.add_argument("--here", required=True, metavar="FOLDER", help="folder of the iteration")
    parser.add_argument("--previous", nargs="*", default=[], metavar="FILE", help="tables of the previous iteration")
    roles = "roles: train, policy, initial; optional: previous_policy"
    parser.add_argument("--input", nargs="*", default=[], metavar="ROLE=PATH", help=roles)
    arguments = parser.parse_args(argv)
    given = dict(word.split("=", 1) for word in arguments.input)
    jobs = json.loads(arguments.jobs)
    previous = str(Path(arguments.previous[0]).parent) if arguments.previous else ""
    for step in STEPS:
        if step.stage not in jobs:
            raise ConfigError(f"--jobs names no job for {step.stage}.")
        run_step(step, Job(**jobs[step.stage]), given, arguments.here, previous)


def run_step(step: Step, job: Job, given: dict[str, str], here: str, previous: str) -> None:
    """Run one stage, from files to files. given: role -> path of files from outside the iteration."""
    module = load(step.stage)
    execute(module.STAGE, module.Config, module.run, job, *files_of_step(step, job, given, here, previous))


def files_of_step(
    step: Step, job: Job, given: dict[str, str], here: str, previous: str
) -> tuple[dict[str, Path], dict[str, Path], Path]:
    """Return role -> file of the inputs and of the outputs of a step, and its log; arguments as in `run_step`."""
    found = inputs_of(step, given, here, previous, unread(job.stage, job.config, job.derived))
    inputs = {role: Path(path) for role, path in found.items() if path}
    outputs = {role: Path(path) for role, path in outputs_of(step, here).items()}
    return inputs, outputs, Path(here) / "logs" / f"{step.name}.log"
