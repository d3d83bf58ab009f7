"""The Slurm jobs of a run, found by its results folder, also after the Snakemake that submitted them has gone.

extra slurm jobs tiny                  which jobs of results/tiny are in the queue
extra slurm cancel results/tiny        cancel them, and wait until they have ended

A run that is started again needs neither: it cancels jobs that wait in the queue, and awaits those that run
(docs/slurm.md).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from extra_rl.errors import InputError
from extra_rl.run import slurm
from extra_rl.run.context import CONTEXT_FILE
from extra_rl.watch.jobs import Owner

HELP = "list or cancel the Slurm jobs of a run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("jobs", "cancel"), help="what to do")
    parser.add_argument("run", metavar="NAME", help="name of the run, or its folder results/NAME")


def run(arguments: argparse.Namespace) -> int:
    results = results_of(arguments.run)
    jobs = slurm.jobs_of(results)
    if not jobs:
        print(f"{results}: no job in the queue.")
        return 0
    print(f"{results}: {len(jobs)} job(s) in the queue\n" + "\n".join(job.line() for job in jobs), flush=True)
    if arguments.action == "cancel":
        owner = Owner.of(results)
        if owner and owner.alive is not False:
            print(
                f"NOTE: the Snakemake of this run (process {owner.process} on {owner.host}) may still run. Then it "
                "submits cancelled jobs again, as often as `retries` allow. To stop the run, end it first (Ctrl-C).",
                file=sys.stderr,
            )
        slurm.cancel(results, jobs)
        print(f"{len(jobs)} job(s) cancelled. What is finished is kept: the command of the run goes on from there.")
    return 0


def results_of(name: str) -> Path:
    """Return the results folder of a run, from its name or its path. InputError where there is none."""
    found = [path for path in (Path("results") / name, Path(name)) if name and (path / CONTEXT_FILE).is_file()]
    if not found:
        raise InputError(
            f"{name or repr(name)}: neither a run below results/ nor its folder. Go to where the run was started."
        )
    return found[0]
