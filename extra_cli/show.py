"""Print one line for every finished iteration of a run, its warnings, and pass@k of the finished arms.

extra show results/tiny
"""

from __future__ import annotations

import argparse
from pathlib import Path

from extra_rl.errors import InputError
from extra_rl.results import ITERATIONS, RunFolder

HELP = "iterations of a run so far, and pass@k once it is finished"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", type=Path, help="folder of a run, for example results/tiny")


def run(arguments: argparse.Namespace) -> int:
    print("\n".join(lines_of(arguments.results)))
    return 0


def lines_of(results: Path) -> list[str]:
    """Return a line for every finished iteration, then the comparison. Raises InputError where there is none yet."""
    import polars as pl

    from extra_rl.report.summary_line import summary_line
    from extra_rl.run.context import Horizon
    from extra_rl.run.fork import fork_lines, read_fork
    from extra_rl.run.records import read_json, seconds_of_iteration, tolerance_of_iteration

    files = sorted(results.glob(f"{ITERATIONS}/summarize.parquet"))
    if not files:
        raise InputError(f"{results}: no finished iteration below it. Is it the folder of a run (results/<name>)?")
    lines = [f"forked from {line}" for line in fork_lines(read_fork(results))]
    for file in files:
        row = pl.read_parquet(file).row(0, named=True)
        iterations = len(list(file.parents[1].glob("iteration_*")))
        folder = file.parent
        horizon = Horizon(iterations, 0)
        lines.append(summary_line(row, horizon, seconds_of_iteration(folder), tolerance_of_iteration(folder)))
    for place in RunFolder.below(results):
        if gaps := place.gaps("summarize"):
            lines.append(
                f"NOTE: {place.path}: summarize.parquet of iteration {', '.join(map(str, gaps))} is gone; "
                f"`extra check {results}` prints the command that makes it again."
            )
    summary = results / "summary.json"
    if summary.is_file():
        lines += ["", *comparison_lines(read_json(summary))]
    return lines


def comparison_lines(summary: dict[str, dict[str, object]]) -> list[str]:
    """Return one line per policy: every pass@k in percent, mean over benchmarks."""
    policies = {"warm_start": summary["warm_start"], **summary["arms"]}
    lines = ["pass@k in percent, mean over benchmarks and seeds"]
    for name, figures in policies.items():
        assert isinstance(figures, dict)
        shown = "  ".join(f"{key} {value:5.1f}" for key, value in figures.items() if key.startswith("pass@"))
        lines.append(f"{name:<16}{shown}")
    return lines
