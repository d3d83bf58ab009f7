"""Judge finished iterations a second time, and keep the rows on which the judges disagree.

extra audit results/tiny/extra/s0/iteration_0003 --judge string
extra audit results/tiny/extra/s0/iteration_* --judge "python my_judge.py --strict" --to /tmp/audit

Writes audit_generate.parquet and audit_regenerate.parquet, as the stage `audit` does, for a run without that stage. The
task and the settings of the verifier come from the iteration's records. docs/audit.md describes the input and output
of a command.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from extra_rl.errors import InputError

HELP = "judge finished iterations a second time"
SOURCES = ("generate", "regenerate")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("iterations", type=Path, nargs="+", metavar="ITERATION", help="folders iteration_NNNN of a run")
    parser.add_argument("--judge", required=True, help="string, sympy_only, or a command line")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds of a command per table (default 600)")
    parser.add_argument("--workers", type=int, help="judging processes (default: as in the run)")
    parser.add_argument("--train", type=Path, help="table of problems, if not in the run's prepare/train.parquet")
    parser.add_argument("--to", type=Path, metavar="DIR", help="write there instead, one folder per iteration")


def run(arguments: argparse.Namespace) -> int:
    wanted = [(folder, of) for folder in arguments.iterations for of in judged_in(folder)]
    for folder, of in wanted:
        audit(folder, of, arguments)
    return 0


def judged_in(folder: Path) -> list[str]:
    """Return which of the iteration's rollout tables have verdicts."""
    found = [of for of in SOURCES if (folder / f"verify_{of}.parquet").is_file()]
    if not found:
        raise InputError(f"{folder}: no verify_generate.parquet; name a folder iteration_NNNN of a run's results.")
    return found


def audit(folder: Path, of: str, arguments: argparse.Namespace) -> None:
    """Write one table of disagreements next to the rollouts, or to `--to`.

    Raises InputError where the table of another judge exists.
    """
    from extra_rl.run.execute import execute
    from extra_rl.run.records import relocate
    from extra_rl.run.stage import Job
    from stages.command import record_of
    from stages.load import load

    verified = folder / f"verify_{of}.parquet"
    record = record_of(verified)
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
    """Raise InputError where `output` is the table of another judge, which the workflow would accept as its own."""
    from extra_rl.tables.files import read_provenance

    if not output.is_file():
        return
    previous = read_provenance(output).get("job", {}).get("config", {}).get("judge")
    if previous != judge:
        raise InputError(
            f"{output} contains the disagreements of the judge {previous!r}. Name another folder (--to DIR), or delete "
            "it."
        )
