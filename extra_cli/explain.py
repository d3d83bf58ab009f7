"""Print one rollout: text with token entropies, prefix, related rollouts, and its reward and advantage.

extra explain extra/s0/i12/5/3
extra explain extra/s0/i13/i12.5/0 --results results/tiny
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

HELP = "one rollout: text, entropies, prefix, siblings, advantage"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rollout", metavar="ROLLOUT_ID", help="{arm}/s{seed}/i{iteration}/{group}/{n}")
    parser.add_argument("--results", type=Path, help="folder of a run (default: the one below results/ that has it)")


def run(arguments: argparse.Namespace) -> int:
    from extra_rl.report.lookup import find, place_of, results_with
    from extra_rl.report.terminal import lines_of

    place = place_of(arguments.rollout)
    results = arguments.results or results_with(place, Path("results"))
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    print("\n".join(lines_of(find(arguments.rollout, results), results, place.folder(results), colour=colour)))
    return 0
