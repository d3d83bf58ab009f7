"""Moves aside what `extra_rl.run.integrity` has found, and names the commands that make it again. Deletes nothing."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterable
from pathlib import Path

from extra_rl.models.digests import MANIFEST
from extra_rl.models.removed import how_to_rebuild, rebuild_commands
from extra_rl.results import CELL_MARK, SHARDS, IterationFolder, is_start_folder
from extra_rl.run.integrity import Examination, Finding, Kind

REMADE: tuple[Kind, ...] = ("damaged", "missing", "foreign", "stale")
"""Kinds of findings that Snakemake mends once the file is out of the way."""

CONFIG = "CONFIG"
"""Stands for the configuration of the run in a command, where it is not known."""


def set_aside(findings: Iterable[Finding]) -> list[tuple[Path, Path]]:
    """Rename the files of findings within their folders; return old and new paths.

    `generate.parquet` becomes `.generate.parquet.aside-<time>`: no reader takes it for a table, no manifest lists it,
    and it can be put back by hand. Hold the run's lock (`extra_rl.run.lock`) meanwhile. The mark of an arm and seed
    that is one job is moved with its files, so that the next run examines them.
    """
    stamp = time.strftime("%Y%m%dT%H%M%S")
    moved = []
    files = dict.fromkeys(file for finding in findings for file in finding.files)
    marks = dict.fromkeys(f.parent / CELL_MARK for path in files for f in path.parents if IterationFolder.at(f))
    for path in [*files, *marks]:
        if path.exists() or path.is_symlink():
            target = path.with_name(f".{path.name.removeprefix('.')}.aside-{stamp}")
            os.replace(path, target)
            moved.append((path, target))
    return moved


def commands(found: Examination, config: str = CONFIG) -> list[str]:
    """The commands that make the findings' files again, in the order in which they are to be run.

    One an iteration, since a file is made from those of the iteration before. `--allowed-rules` keeps Snakemake from
    making again what lies between two such files and is whole: the bytes come out as they were. The last command is
    the run's own, which makes again what follows from a file whose content is another now.

    Args:
        config: path of the run's configuration.
    """
    steps: dict[float, list[Finding]] = {}
    for finding in found.of_kind(*REMADE):
        steps.setdefault(_step(finding.path), []).append(finding)
    run = f"snakemake --cores 2 --configfile {shlex.quote(config)}"
    lines = []
    for _, findings in sorted(steps.items()):
        paths = [finding.path for finding in findings]
        tables = [path for path in paths if path.name != MANIFEST]
        rules = sorted({rule for path in tables if (rule := _rule(path, found.stages.get(path, "")))})
        if tables:
            allowed = f" --allowed-rules {' '.join(rules)}" if rules else ""  # records of a renamed copy name no rule
            lines.append(f"{run}{allowed} -- {shlex.join(map(str, tables))}")
        for path in paths:
            if path.name == MANIFEST:
                lines += rebuild_commands(path.parent, run) or [how_to_rebuild(path.parent)]
    return [*dict.fromkeys(lines), run] if lines else []


def _step(path: Path) -> float:
    """When a file is made: before, in or after an iteration; evaluations follow the policy of theirs."""
    after = 0.5 if path.name.startswith("evaluate") else 0.0
    for folder in path.parents:
        iteration = IterationFolder.at(folder)
        if iteration is not None:
            return iteration.number + after
        if is_start_folder(folder.name):
            return -1 + after
        if folder.name == "prepare":
            return -2
    return float("inf")


def _rule(path: Path, stage: str) -> str:
    """The rule that makes a table: named after its stage, but for shards and the two rules of evaluations."""
    if path.parent.name == SHARDS:
        return f"{stage}_shard"
    if stage == "evaluate":
        return f"evaluate_{'warm_start' if is_start_folder(path.parent.name) else 'iteration'}"
    return stage
