"""Publish an experiment as two small files, and recompute its comparison from them without running anything.

extra evidence pack results/exploration --to docs/results/evidence --name exploration --machine "two cores"
extra evidence compare config/exploration.yaml docs/results/evidence/exploration
extra evidence compare config/exploration.yaml docs/results/evidence/exploration --markdown --figure gain.svg

`pack` takes the finished cells of a folder of results, or of other evidence files (`folder/NAME`), and adds them to the
files. `compare` computes what the stage of that name does; arms, seeds and named comparisons are those of the
configuration. docs/evidence.md explains both.
"""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "an experiment as two small files, and its comparison recomputed from them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    pack = actions.add_parser("pack", help="add the finished cells of a run to the files")
    pack.add_argument("results", type=Path, help="folder of a run, or the prefix of evidence files: folder/NAME")
    pack.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="folder of the files")
    pack.add_argument("--name", required=True, help="the files are NAME_counts.parquet and NAME_runs.parquet")
    pack.add_argument("--machine", metavar="TEXT", help="short label of the machine, such as 'two cores, torch 2.13.0'")
    pack.add_argument("--arms", nargs="+", default=[], metavar="ARM", help="arms or their folders; default: all")
    pack.add_argument("--replace", action="store_true", help="replace runs that the files have with other values")
    compare = actions.add_parser("compare", help="print the comparison of the arms")
    compare.add_argument("config", type=Path, help="configuration of the experiment")
    compare.add_argument("prefixes", type=Path, nargs="+", metavar="PREFIX", help="evidence files: folder/NAME")
    compare.add_argument("--markdown", action="store_true", help="print Markdown")
    compare.add_argument("--figure", type=Path, metavar="FILE.svg", help="also draw the gain over the first arm")
    compare.add_argument("--figure-arms", nargs="+", default=[], metavar="ARM", help="arms in the figure; default: all")


def run(arguments: argparse.Namespace) -> int:
    if arguments.action == "pack":
        print("\n".join(packed_lines(arguments)))
    else:
        print("\n".join(compared_lines(arguments)))
    return 0


def packed_lines(arguments: argparse.Namespace) -> list[str]:
    """Write the files; return what was added."""
    from extra_research.evidence import empty, exists, listed, merge, read, write
    from extra_research.evidence_packing import pack
    from extra_rl.errors import InputError

    prefix: Path = arguments.to / arguments.name
    packed = pack(arguments.results, arguments.arms, arguments.machine)
    if packed.evidence.counts.is_empty():
        raise InputError(f"{arguments.results}: no cell is finished: none has an evaluation of its last iteration.")
    old = read(prefix) if exists(prefix) else empty()
    found = merge(old, packed.evidence, replace=arguments.replace, what=str(prefix))
    paths = write(found.evidence, prefix)
    starts = found.evidence.counts.filter(seed=-1)["folder"].n_unique()
    new = found.added.filter(seed=-1)["folder"].n_unique()
    lines = [
        f"{len(found.evidence.runs)} runs and {starts} warm start{'s' * (starts != 1)}; added: "
        f"{len(found.added) - new} and {new}"
    ]
    if len(found.replaced):
        lines.append(f"replaced: {listed(found.replaced)}")
    if packed.unfinished:
        more = len(packed.unfinished) - 5
        shown = ", ".join(packed.unfinished[:5]) + (f" and {more} more" if more > 0 else "")
        lines.append(f"left out, not finished: {shown}")
    return [*lines, *(f"  {path} ({path.stat().st_size:,} bytes)" for path in paths)]


def compared_lines(arguments: argparse.Namespace) -> list[str]:
    """Return the comparison; draw the figure where it is requested."""
    from extra_research.evidence import merged, read
    from extra_research.evidence_comparison import compare, plan_of
    from extra_research.evidence_text import lines_of

    plan = plan_of(arguments.config)
    found = compare(plan, merged((str(prefix), read(prefix)) for prefix in arguments.prefixes))
    lines = lines_of(found, markdown=arguments.markdown)
    if arguments.figure:
        from extra_research.evidence_chart import write_gain

        write_gain(found, arguments.figure, arguments.figure_arms)
        lines += [] if arguments.markdown else ["", f"  {arguments.figure}"]
    return lines
