"""The command `extra`: looks at results and at the machine. It runs nothing; that is Snakemake's part.

extra show results/tiny      one line an iteration, and the comparison where it is there
extra doctor                 what this environment is, and whether it can run
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import sys
from pathlib import Path

from extra_rl.errors import ExtraError, InputError

PACKAGES = (
    "snakemake",
    "torch",
    "transformers",
    "sentence-transformers",
    "polars",
    "pyarrow",
    "pydantic",
    "math-verify",
)


def main(argv: list[str] | None = None) -> int:
    """Entry point; a user's error is one message on standard error."""
    parser = argparse.ArgumentParser(prog="extra", description="Look at ExTra's results and environment.")
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser("show", help="iterations and comparison of a run")
    show.add_argument("results", type=Path, help="folder of a run, for example results/tiny")
    commands.add_parser("doctor", help="versions, cores, accelerators, disk")
    arguments = parser.parse_args(argv)
    try:
        lines = show_run(arguments.results) if arguments.command == "show" else examine()
    except ExtraError as error:
        print(f"extra: {error}", file=sys.stderr)
        return error.exit_code
    print("\n".join(lines))
    return 0


def show_run(results: Path) -> list[str]:
    """Lines for every finished iteration of a run, then the comparison. InputError when there is nothing yet."""
    import polars as pl

    from extra_rl.records import seconds_of_iteration
    from extra_rl.summary_line import Horizon, summary_line

    files = sorted(results.glob("*/s*/iteration_*/summarize.parquet"))
    if not files:
        raise InputError(f"{results}: no finished iteration below it. Is it the folder of a run (results/<name>)?")
    lines = []
    for file in files:
        row = pl.read_parquet(file).row(0, named=True)
        iterations = len(list(file.parents[1].glob("iteration_*")))
        lines.append(summary_line(row, Horizon(iterations, 0), seconds_of_iteration(file.parent)))
    summary = results / "summary.json"
    if summary.is_file():
        lines += ["", *comparison_lines(json.loads(summary.read_text()))]
    return lines


def comparison_lines(summary: dict[str, dict[str, object]]) -> list[str]:
    """One line a policy: every pass@k, mean over benchmarks."""
    policies = {"warm_start": summary["warm_start"], **summary["arms"]}
    lines = []
    for name, figures in policies.items():
        assert isinstance(figures, dict)
        shown = "  ".join(f"{key} {value:5.1f}" for key, value in figures.items() if key.startswith("pass@"))
        lines.append(f"{name:<16}{shown}")
    return lines


def examine() -> list[str]:
    """What this environment is, line by line."""
    lines = [f"python {platform.python_version()} ({sys.prefix})"]
    for name in PACKAGES:
        try:
            lines.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            lines.append(f"{name} is MISSING: run `make .venv/ready`, or pip install -e .")
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    lines.append(
        f"{len(os.sched_getaffinity(0))} cores; accelerators: {', '.join(gpus) or 'none (the CPU default runs)'}"
    )
    lines.append(f"{shutil.disk_usage('.').free / 2**30:.0f} GiB free on this disk")
    return lines


if __name__ == "__main__":
    sys.exit(main())
