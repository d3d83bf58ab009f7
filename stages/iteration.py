"""All stages of an iteration in one process: `python -m stages iteration`, for `granularity: iteration`.

Every stage reads and writes its own files as a job of its own would, with its own record and log; what is saved is the
start of a dozen processes, which costs a small model more than its stages.
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
    """Raises what the stages raise; what those before the failing one have made stays."""
    parser = argparse.ArgumentParser(prog="python -m stages iteration", description=__doc__)
    parser.add_argument("--jobs", required=True, help="canonical JSON: the job of every stage, by its name")
    parser.add_argument("--here", required=True, metavar="FOLDER", help="of the iteration")
    parser.add_argument("--previous", nargs="*", default=[], metavar="FILE", help="tables of the iteration before")
    roles = "train, policy, initial; perhaps previous_policy"
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
    """One stage, from files to files."""
    module = load(step.stage)
    found = inputs_of(step, given, here, previous, unread(job.stage, job.config, job.derived))
    inputs = {role: Path(path) for role, path in found.items() if path}
    outputs = {role: Path(path) for role, path in outputs_of(step, here).items()}
    execute(module.STAGE, module.Config, module.run, job, inputs, outputs, Path(here) / "logs" / f"{step.name}.log")
