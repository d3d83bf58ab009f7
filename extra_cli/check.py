"""Looks for damaged, missing, swapped and stale files in the results of a run, by their content alone.

extra check results/tiny
extra check results/tiny --repair --configfile config/tiny.yaml

Exit code 0: nothing is wrong; 1: something is, and is listed with the commands that mend it; 2: the folder cannot be
examined. `--repair` moves the listed files aside and deletes nothing; run the commands afterwards (docs/recovery.md).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from extra_rl.run.integrity import Examination

HELP = "damaged, missing, swapped and stale files of a run"
DEPENDENTS_SHOWN = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", type=Path, help="folder of a run, for example results/tiny")
    parser.add_argument(
        "--repair", action="store_true", help="move the listed files aside, so that they are made again"
    )
    parser.add_argument("--configfile", metavar="FILE", help="configuration of the run, for the printed commands")


def run(arguments: argparse.Namespace) -> int:
    from extra_rl.run import lock
    from extra_rl.run.integrity import examine
    from extra_rl.run.repair import CONFIG, commands, set_aside

    found = examine(arguments.results)
    print("\n".join(lines_of(arguments.results, found)))
    if arguments.repair and any(finding.files for finding in found.findings):
        lock.hold(arguments.results)
        for old, new in set_aside(found.findings):
            print(f"moved {old} to {new.name}")
    steps = commands(found, arguments.configfile or CONFIG)
    if steps:
        aside = "" if arguments.repair else f"`extra check {arguments.results} --repair` moves them aside. Then, "
        print(f"\n{aside}in this order:" if aside else "\nNow, in this order:")
        print("\n".join(f"  {step}" for step in steps))
    return int(any(finding.kind != "leftover" for finding in found.findings))


def lines_of(results: Path, found: Examination) -> list[str]:
    """What was examined, then every finding with what was made from the file."""
    lines = [
        f"{results}: {found.tables} tables and {found.policies} policies examined, {len(found.findings)} finding(s)"
    ]
    if found.without_digest:
        lines.append(f"{found.without_digest} tables are older than digests in footers: their bytes were not compared")
    for finding in found.findings:
        lines += [f"{finding.kind.upper():<9}{finding.path}", f"         {finding.what}"]
        dependents = found.dependents(finding.path)
        if dependents:
            shown = ", ".join(map(str, dependents[:DEPENDENTS_SHOWN]))
            lines.append(f"         {len(dependents)} file(s) were made from it: {shown}, ...")
    return lines
