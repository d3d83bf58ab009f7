"""Evidence from the folder of a run's results: the finished cells, and the warm starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from extra_research.contracts import EvidenceCounts, EvidenceRuns
from extra_research.evidence import Evidence, exists, normalised, read
from extra_rl.comparison.figures import counts_of
from extra_rl.config.comparisons import WARM_START
from extra_rl.config.files import read_yaml
from extra_rl.config.mistakes import nearest
from extra_rl.errors import InputError
from extra_rl.results import RunFolder
from extra_rl.run.configuration import CONFIGURATION_FILE
from extra_rl.run.records import MEASURING, cost, read_json, records
from extra_rl.tables import contracts
from extra_rl.tables.files import read_table

SUMS = [
    *("sampled_tokens", "prefilled_tokens", "scored_tokens", "trained_tokens", "compute", "embedding_compute"),
    *("useful_groups", "groups", "mixed", "all_incorrect", "all_correct", "regenerated_groups", "rescued_groups"),
    *("replayed_groups", "replayed_mixed", "steps"),
]
"""Columns of `summarize` whose sum over iterations is a column of EvidenceRuns."""


@dataclass(frozen=True)
class Packed:
    """evidence: of the finished cells. unfinished: names of the others, `<folder>/s<seed>`."""

    evidence: Evidence
    unfinished: Sequence[str]


def pack(source: Path, arms: Sequence[str] = (), machine: str | None = None) -> Packed:
    """Return the evidence of a source.

    Args:
        source: folder of a run's results, or the prefix of evidence files.
        arms: arms, or folders of arms, that are packed; all if empty. Warm starts are always packed.
        machine: label of the machine, where the source names none.
    Raises InputError where the source is neither, a file is missing, or an arm is not in it.
    """
    found = _of_results(source, arms) if source.is_dir() or not exists(source) else Packed(read(source), [])
    runs, counts = found.evidence.runs, found.evidence.counts
    if arms:
        wanted = _chosen([*runs["folder"].unique(), *(name.partition("/")[0] for name in found.unfinished)], arms)
        runs = runs.filter(pl.col("folder").is_in(wanted))
        counts = counts.filter((pl.col("seed") < 0) | pl.col("folder").is_in(wanted))
    named = runs.with_columns(machine=pl.coalesce("machine", pl.lit(machine, pl.String)))
    return Packed(Evidence(counts, named), found.unfinished)


def _of_results(results: Path, arms: Sequence[str]) -> Packed:
    if not (results / "context.json").is_file():
        raise InputError(
            f"{results}: neither a folder of results (it has no context.json) nor the prefix of evidence files (there "
            f"is no {results.name}_counts.parquet). Name a folder results/<name>."
        )
    last = int(read_json(results / "context.json")["horizon"]["iterations"]) - 1
    cells = RunFolder.below(results)
    file = results / CONFIGURATION_FILE
    experiment = read_yaml(file).get("name") if file.is_file() else None
    wanted = set(_chosen([cell.arm for cell in cells], arms))
    counts = [_counts(path, path.parent.name, -1) for path in sorted(results.glob(f"{WARM_START}*/evaluate.parquet"))]
    rows, unfinished = [], []
    for cell in cells:
        if cell.arm not in wanted:
            continue
        if last not in cell.iterations("evaluate"):
            unfinished.append(cell.name)
            continue
        counts.append(_counts(cell.iteration(last) / "evaluate.parquet", cell.arm, cell.seed))
        rows.append({"folder": cell.arm, "seed": cell.seed, "experiment": experiment, **spending(cell, last)})
    runs = pl.DataFrame(rows, EvidenceRuns.create_empty().schema)
    return Packed(normalised(pl.concat([EvidenceCounts.create_empty(), *counts]), runs), unfinished)


def spending(cell: RunFolder, last: int) -> dict[str, Any]:
    """Return the columns of EvidenceRuns after `experiment`, of a finished cell. last: its last iteration.

    Raises InputError where an iteration is missing.
    """
    iterations = cell.iterations("summarize")
    missing = [number for number in range(last + 1) if number not in iterations]
    if missing:
        raise InputError(f"{cell.iteration(missing[0])}: no summarize.parquet. Copy the whole folder of the run.")
    tables = [pl.read_parquet(iterations[number] / "summarize.parquet", columns=SUMS) for number in range(last + 1)]
    summary = pl.concat(tables)
    sampled = [tokens > 0 for tokens in summary["sampled_tokens"]]
    training = [
        [row for row in records(iterations[number], "**/*.run.json") if row.get("stage") not in MEASURING]
        for number in range(last + 1)
    ]
    active = cost(row for rows, any_token in zip(training, sampled, strict=True) for row in rows if any_token)
    idle = cost(row for rows, any_token in zip(training, sampled, strict=True) for row in rows if not any_token)
    sums: dict[str, Any] = {name: summary[name].sum() for name in SUMS}
    if summary["embedding_compute"].null_count():
        sums["embedding_compute"] = None
    return {
        "iterations": sum(sampled),
        "cpu_s": active["compute_seconds"],
        "idle_cpu_s": idle["compute_seconds"],
        "device_s": active["device_seconds"],
        **sums,
    }


def _counts(path: Path, folder: str, seed: int) -> pl.DataFrame:
    counted = counts_of(read_table(path, contracts.JudgedSamples))
    keyed = counted.with_columns(folder=pl.lit(folder), seed=pl.lit(seed, pl.Int64))
    return keyed.select(list(EvidenceCounts.columns())).cast({"n": pl.Int16, "c": pl.Int16})


def _chosen(folders: Sequence[str], arms: Sequence[str]) -> list[str]:
    """Return the folders of arms that are named as folder or as arm, `<regime>-<arm>`; all where none is named."""
    if not arms:
        return list(folders)
    known = {name for folder in folders for name in (folder, folder.partition("-")[2])} - {""}
    for arm in arms:
        if arm not in known:
            raise InputError(f"--arms: there is no finished or unfinished cell of {arm!r}{nearest(arm, known)}.")
    return [folder for folder in folders if folder in arms or folder.partition("-")[2] in arms]
