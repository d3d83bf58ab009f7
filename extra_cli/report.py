"""The report of a run: one HTML file that holds all that it shows and opens without a network.

extra report results/tiny
"""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "report.html of a run: the answer, the figures, the rollouts"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", type=Path, help="folder of a run, for example results/tiny; it may be unfinished")
    parser.add_argument("--out", type=Path, help="where to write it; RESULTS/report.html unless given")
    parser.add_argument("--rollouts", type=int, default=1500, help="rollouts to look at in the page; 0: none")


def run(arguments: argparse.Namespace) -> int:
    from extra_rl.report.page import build

    out = arguments.out or arguments.results / "report.html"
    size = build(arguments.results, out, arguments.rollouts)
    print(f"{out}: {size / 1e6:.1f} MB")
    return 0
