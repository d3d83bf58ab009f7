"""Opens a stage of a finished iteration from its record: what it read, with which section, and what it wrote.

No command of its own: `counterfactual`, `gradient-noise` and `prefix-signal` begin with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import dataframely as dy
import polars as pl

from extra_cli.audit import beside
from extra_rl.errors import ConfigError, InputError
from extra_rl.results import IterationFolder
from extra_rl.run.execute import gather, record_path
from extra_rl.run.stage import Job
from extra_rl.tables.files import read_table, write_table
from research.replay import Finished


def finished(folder: Path, stage: str) -> Finished:
    """A stage as it ran in an iteration's folder.

    Raises InputError for a folder that is none of an iteration, and for a file that is missing: which, and how to make
    it.
    """
    from stages.load import load

    refuse_other_folders(folder)
    module = load(stage)
    tables = {role: contract for role, contract in module.STAGE.adds.items() if _is_table(contract)}
    main = folder / f"{next(iter(tables))}.parquet"
    refuse_missing([main])
    record = record_of(main)
    recorded = record["outputs"][next(iter(tables))]
    paths = {role: beside(main, recorded, path) for role, path in record["inputs"].items()}
    refuse_missing(paths.values())
    made = {role: beside(main, recorded, record["outputs"][role]) for role in tables}
    refuse_missing(made.values())
    inputs, identities = gather(module.STAGE, paths)
    return Finished(
        stage=module.STAGE,
        config_class=module.Config,
        run=module.run,
        job=Job.from_json(record["job"]),
        inputs=inputs,
        made={role: read_table(path, tables[role]) for role, path in made.items()},
        read_as=identities,
        helper=lambda name: getattr(module, name),
    )


def refuse_other_folders(folder: Path) -> None:
    """InputError unless it is the folder of an iteration that has been sampled."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; name a folder iteration_NNNN of a run's results.")
    if not (folder / "generate.parquet").is_file():
        raise InputError(f"{folder}: no generate.parquet there; name a folder iteration_NNNN of a run's results.")


def refuse_missing(paths: Iterable[Path]) -> None:
    """InputError naming the first file that is not there, with the command that makes it."""
    for path in paths:
        if not path.is_file():
            raise InputError(
                f"{path}: no such file. Make it with `snakemake --cores 2 -- {path}` and the --configfile of the run; "
                "of a run that was copied here, copy the folders beside this iteration too."
            )


def record_of(table: Path) -> dict[str, Any]:
    """The record of the run that made a table; InputError where it is missing."""
    path = record_path(table)
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (FileNotFoundError, ValueError) as error:
        raise InputError(
            f"{path}: no readable record of how {table.name} was made ({type(error).__name__}). Copy it from the run, "
            f"or delete {table} and run the workflow again."
        ) from None
    return found


def next_iteration(folder: Path) -> Path | None:
    """Folder of the iteration after this one, where it is beside it."""
    place = IterationFolder.at(folder.resolve())
    after = place.sibling(place.number + 1) if place else None
    return after if after is not None and after.is_dir() else None


def folder_for(iterations: Sequence[Path]) -> Path:
    """Where the table of these iterations lies unless --out says: within the iteration, or beside several of one run.

    Raises ConfigError for iterations of several runs.
    """
    if len({folder.resolve().parent for folder in iterations}) > 1:
        raise ConfigError("iterations of several runs: name a folder for their table (--out FOLDER).")
    return (iterations[0] if len(iterations) == 1 else iterations[0].parent) / "counterfactual"


def write(
    folder: Path, of: Sequence[Finished], tables: Mapping[str, tuple[pl.DataFrame, type[dy.Schema]]]
) -> list[Path]:
    """Writes tables by name, with what they were made from in the footer; returns their paths."""
    inputs = {identity["name"]: dict(identity) for stage in of for identity in stage.read_as.values()}
    paths = []
    for name, (table, contract) in tables.items():
        paths.append(folder / f"{name}.parquet")
        write_table(table, paths[-1], contract, {"name": f"counterfactual/{name}", "inputs": inputs})
    return paths


def _is_table(contract: Any) -> bool:
    return isinstance(contract, type) and issubclass(contract, dy.Schema)
