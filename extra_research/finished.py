"""A stage of a finished iteration, opened from its run record and ready to be run again with other settings."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dataframely as dy
import polars as pl

from extra_rl.config.section import StageConfig, parse_config
from extra_rl.errors import ConfigError, InputError
from extra_rl.results import IterationFolder
from extra_rl.run.execute import Run, gather, record_path
from extra_rl.run.progress import Console
from extra_rl.run.records import relocate
from extra_rl.run.stage import Context, Inputs, Job, Stage
from extra_rl.tables.files import read_table, write_table
from stages.load import load


@dataclass(frozen=True)
class FinishedStage:
    """What a stage read and what it wrote.

    Args:
        job: As in the run's record.
        outputs: role -> table on disk.
        identities: role -> name and digest of every input.
        helper: Returns a function of the stage's module by its name.
    """

    stage: Stage
    config_class: type[StageConfig]
    run: Run
    job: Job
    inputs: Inputs
    outputs: Mapping[str, pl.DataFrame]
    identities: Mapping[str, Mapping[str, str]]
    helper: Callable[[str], Any]

    def config(self, changes: Mapping[str, Any] | None = None) -> Any:
        """Return the run's section with some keys changed; ConfigError for keys or values that the stage refuses."""
        section = {**copy.deepcopy(self.job.config), **(changes or {})}
        return parse_config(self.config_class, section, self.stage.name)

    def seed(self) -> int:
        """Return the seed that the stage had in this iteration."""
        return self._context().seed()

    def with_table(self, role: str, table: pl.DataFrame) -> Inputs:
        """Return the stage's inputs with one table replaced."""
        return dataclasses.replace(self.inputs, tables={**self.inputs.tables, role: table})

    def rerun(self, changes: Mapping[str, Any] | None = None, inputs: Inputs | None = None) -> dict[str, pl.DataFrame]:
        """Run the stage again under a changed section, on its inputs or on others; return its tables."""
        return dict(self.run(inputs or self.inputs, self.config(changes), self._context()))

    def require_reproduced(self, role: str, rerun: pl.DataFrame) -> None:
        """Raise InputError where `rerun` is not the run's own table of that role.

        Every variant is compared with the run, so this code must reproduce the run.
        """
        if not rerun.equals(self.outputs[role]):
            raise InputError(
                f"{self.job.place}: {role} of the run is not what stage {self.stage.name} version "
                f"{self.stage.version} makes of the same inputs (the run's was version {self.job.version}). "
                "Use the checkout that the run was made with, or run the iteration again."
            )

    def _context(self) -> Context:
        return Context(self.job, {}, Console(None), {}, derived=self.stage.derived_of(self.job))


def open_stage(folder: Path, stage: str) -> FinishedStage:
    """Return a stage as it ran in an iteration's folder.

    Raises InputError for a folder that is not an iteration's, and for a missing file, with the command that makes it.
    """
    require_iteration(folder)
    module = load(stage)
    tables = {role: contract for role, contract in module.STAGE.writes.items() if _is_table(contract)}
    main = folder / f"{next(iter(tables))}.parquet"
    require_files([main])
    record = record_of(main)
    recorded = record["outputs"][next(iter(tables))]
    paths = {role: relocate(main, recorded, path) for role, path in record["inputs"].items()}
    require_files(paths.values())
    written = record["outputs"]  # an earlier version of the stage may have written fewer tables
    outputs = {role: relocate(main, recorded, written[role]) for role in tables if role in written}
    require_files(outputs.values())
    inputs, identities = gather(module.STAGE, paths)
    return FinishedStage(
        stage=module.STAGE,
        config_class=module.Config,
        run=module.run,
        job=Job.from_json(record["job"]),
        inputs=inputs,
        outputs={role: read_table(path, tables[role]) for role, path in outputs.items()},
        identities=identities,
        helper=lambda name: getattr(module, name),
    )


def require_iteration(folder: Path) -> None:
    """Raise InputError unless it is the folder of an iteration that has been sampled."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; name a folder iteration_NNNN of a run's results.")
    if not (folder / "generate.parquet").is_file():
        raise InputError(f"{folder}: no generate.parquet; name a folder iteration_NNNN of a run's results.")


def require_files(paths: Iterable[Path]) -> None:
    """Raise InputError for the first missing file, with the command that makes it."""
    for path in paths:
        if not path.is_file():
            raise InputError(
                f"{path}: no such file. Make it with `snakemake --cores 2 -- {path}` and the --configfile of the run; "
                "of a run that was copied here, copy the folders next to this iteration too."
            )


def record_of(table: Path) -> dict[str, Any]:
    """Return the record of the run that made a table; InputError where it is missing."""
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
    """Return the folder of the next iteration, if it exists."""
    place = IterationFolder.at(folder.resolve())
    after = place.sibling(place.number + 1) if place else None
    return after if after is not None and after.is_dir() else None


def folder_for(iterations: Sequence[Path]) -> Path:
    """Return where the table of these iterations goes without --out: within one iteration, next to several of one run.

    Raises ConfigError for iterations of several runs.
    """
    if len({folder.resolve().parent for folder in iterations}) > 1:
        raise ConfigError("iterations of several runs: name a folder for their table (--out FOLDER).")
    return (iterations[0] if len(iterations) == 1 else iterations[0].parent) / "counterfactual"


def write(
    folder: Path, sources: Sequence[FinishedStage], tables: Mapping[str, tuple[pl.DataFrame, type[dy.Schema]]]
) -> list[Path]:
    """Write tables by name, with the inputs of their sources in the footer; return their paths."""
    inputs = {identity["name"]: dict(identity) for source in sources for identity in source.identities.values()}
    paths = []
    for name, (table, contract) in tables.items():
        paths.append(folder / f"{name}.parquet")
        write_table(table, paths[-1], contract, {"name": f"counterfactual/{name}", "inputs": inputs})
    return paths


def _is_table(contract: Any) -> bool:
    return isinstance(contract, type) and issubclass(contract, dy.Schema)
