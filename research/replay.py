"""A stage of a finished iteration, ready to be run again on the tables that it once read, with another section."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from extra_rl.config.section import StageConfig, parse_config
from extra_rl.errors import InputError
from extra_rl.run.execute import Run
from extra_rl.run.progress import Console
from extra_rl.run.stage import Context, Inputs, Job, Stage

Section = dict[str, Any]
Changes = Mapping[str, Mapping[str, Any]]
"""stage -> key -> value: what differs from the run's own sections; empty: the run as it was."""


@dataclass(frozen=True)
class Finished:
    """What a stage was given, and what it made of it.

    job: as the run's record has it. made: role -> table on disk. read_as: role -> name and digest of every input.
    helper: a function of the stage's module by its name.
    """

    stage: Stage
    config_class: type[StageConfig]
    run: Run
    job: Job
    inputs: Inputs
    made: Mapping[str, pl.DataFrame]
    read_as: Mapping[str, Mapping[str, str]]
    helper: Callable[[str], Any]

    def config(self, changes: Mapping[str, Any] | None = None) -> Any:
        """The run's own section with some keys changed; ConfigError for what the stage does not know."""
        return parse_config(self.config_class, changed(self.job.config, changes or {}), self.stage.name)

    def seed(self) -> int:
        """Of the stage in this iteration, as its own run drew it."""
        return self._context().seed()

    def with_table(self, role: str, table: pl.DataFrame) -> Inputs:
        """Its inputs with one table replaced."""
        return dataclasses.replace(self.inputs, tables={**self.inputs.tables, role: table})

    def again(self, changes: Mapping[str, Any] | None = None, inputs: Inputs | None = None) -> dict[str, pl.DataFrame]:
        """What the stage makes of its inputs (or of others in their place) under a changed section."""
        return dict(self.run(inputs or self.inputs, self.config(changes), self._context()))

    def _context(self) -> Context:
        return Context(self.job, {}, Console(None), {})


def changed(section: Section, changes: Mapping[str, Any]) -> Section:
    """A copy of the section with keys replaced."""
    return {**copy.deepcopy(section), **changes}


def refuse_other_code(finished: Finished, role: str, now: pl.DataFrame) -> None:
    """InputError where the stage makes something else of its old inputs today than it did in the run.

    Everything else here is compared with the run, which must therefore be what this code would have done.
    """
    if not now.equals(finished.made[role]):
        raise InputError(
            f"{finished.job.place}: {role} of the run is not what stage {finished.stage.name} version "
            f"{finished.stage.version} makes of the same inputs (the run's was version {finished.job.version}). "
            "Use the checkout that the run was made with, or run the iteration again."
        )
