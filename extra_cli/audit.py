"""Lets a second judge look at finished iterations, and keeps the rows on which it disagrees with the first.

extra audit results/tiny/extra/s0/iteration_0003 --judge string
extra audit results/tiny/extra/s0/iteration_* --judge "python my_judge.py --strict" --to /tmp/audit

Writes audit_generate.parquet and audit_regenerate.parquet, as the stage `audit` does, for a run that was made without
it. Task, limits and policy of the first judge come from the iteration's own records. What a command reads and writes is
in docs/audit.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from extra_rl.errors import InputError

HELP = "a second judge over finished iterations"
SOURCES = ("generate", "regenerate")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("iterations", type=Path, nargs="+", metavar="ITERATION", help="folders iteration_NNNN of a run")
    parser.add_argument("--judge", required=True, help="string, sympy_only, or a command line")
    parser.add_argument("--timeout", type=float, default=600.0, help="a command's seconds a table (default 600)")
    parser.add_argument("--workers", type=int, help="judging processes (default: as in the run)")
    parser.add_argument("--train", type=Path, help="problems, where the run's own prepare/train.parquet is elsewhere")
    parser.add_argument("--to", type=Path, metavar="DIR", help="write there instead, one folder an iteration")


def run(arguments: argparse.Namespace) -> int:
    wanted = [(folder, of) for folder in arguments.iterations for of in judged_in(folder)]
    for folder, of in wanted:
        audit(folder, of, arguments)
    return 0


def judged_in(folder: Path) -> list[str]:
    """Which of the iteration's rollouts have verdicts."""
    found = [of for of in SOURCES if (folder / f"verify_{of}.parquet").is_file()]
    if not found:
        raise InputError(
            f"{folder}: no verify_generate.parquet there; name a folder iteration_NNNN of a run's results."
        )
    return found


def audit(folder: Path, of: str, arguments: argparse.Namespace) -> None:
    """One table of disagreements beside the rollouts, or in `--to`. InputError where another judge's lies there."""
    from extra_rl.run.execute import execute
    from extra_rl.run.records import relocate
    from extra_rl.run.stage import Job
    from stages.command import read_record
    from stages.load import load

    verified = folder / f"verify_{of}.parquet"
    record = read_record(verified)
    first, stage = Job.from_json(record["job"]), load("audit")
    verifier = first.config["verifier"] | ({"workers": arguments.workers} if arguments.workers else {})
    section = {
        "task": first.config["task"],
        "verifier": verifier,
        "judge": arguments.judge,
        "timeout_s": arguments.timeout,
    }
    job = Job("audit", stage.STAGE.version, first.seed, section, first.arm, first.iteration)
    inputs = {
        "rollouts": folder / f"{of}.parquet",
        "verify": verified,
        "train": arguments.train or relocate(verified, record["outputs"]["verify"], record["inputs"]["train"]),
    }
    output = (arguments.to / first.place if arguments.to else folder) / f"audit_{of}.parquet"
    refuse_other_judge(output, arguments.judge)
    execute(stage.STAGE, stage.Config, stage.run, job, inputs, {"audit": output}, None)
    print(f"  {output}")


def refuse_other_judge(output: Path, judge: str) -> None:
    """InputError where `output` is there and another judge made it: the workflow would take it for its own."""
    from extra_rl.tables.files import read_provenance

    if not output.is_file():
        return
    former = read_provenance(output).get("job", {}).get("config", {}).get("judge")
    if former != judge:
        raise InputError(
            f"{output} holds what the judge {former!r} said. Name another folder (--to DIR), or delete it."
        )
