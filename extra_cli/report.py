"""Write the report of a run: one HTML file, which opens without a network.

extra report results/tiny
extra report --index results
"""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "write report.html of a run: significant differences, figures, rollouts"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "results",
        type=Path,
        help="folder of a run, for example results/tiny; it may be unfinished. With --index: the folder above, results",
    )
    parser.add_argument("--index", action="store_true", help="write index.html of all runs below a folder instead")
    parser.add_argument("--out", type=Path, help="file to write (default: RESULTS/report.html)")
    parser.add_argument("--compared", action="store_true", help="only arms and seeds of the finished comparison")
    parser.add_argument("--rollouts", type=int, default=1500, help="maximum number of rollouts in the page; 0: none")


def run(arguments: argparse.Namespace) -> int:
    if arguments.index:
        from extra_rl.report.index import build_index

        page, runs = build_index(arguments.results)
        print(f"{page}: {runs} run{'s' * (runs != 1)}")
        return 0
    from extra_rl.report.page import build

    out = arguments.out or arguments.results / "report.html"
    size = build(arguments.results, out, arguments.rollouts, arguments.compared)
    print(f"{out}: {size / 1e6:.1f} MB")
    return 0
