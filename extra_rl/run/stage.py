"""What a stage is: its name and version, what it reads and adds, and what it may know while it runs.

A stage is a function from checked tables to tables (`stages/*.py`); files, provenance and records are the runner's part
(`extra_rl/run/execute.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dataframely as dy
import polars as pl

from extra_rl.config.section import Section, parse_config
from extra_rl.errors import ConfigError
from extra_rl.results import place_name
from extra_rl.run.context import RunContext
from extra_rl.run.progress import Console, Progress
from extra_rl.seeding import derive_seed
from extra_rl.tables.files import canonical_json


class PolicyDirectory:
    """Marks an input or output that is a policy: a directory of safetensors whose manifest.json is the file named."""


class JsonFile:
    """Marks an output that the stage writes itself, for readers outside of the pipeline."""


class SourceFile:
    """Marks an input that no stage made: a user's file of problems, known by the digest of its bytes."""


Contract = type[dy.Schema] | type[PolicyDirectory] | type[JsonFile] | type[SourceFile]


@dataclass(frozen=True)
class Stage:
    """What a stage is called, what it reads and adds.

    reads: role -> contract; a role that ends in `?` may be absent (nothing came before iteration 0), one that ends in
        `*` may be given any number of times, as `role:label`.
    version: raised by hand whenever the same inputs and config give other bytes; it is part of the rule's one param.
    shards: what a shard of it adds instead; empty: it cannot be sharded.
    derived: what it needs to know of other sections (`extra_rl.config.derived`); an empty section: nothing.
    """

    name: str
    version: int
    reads: Mapping[str, Contract]
    adds: Mapping[str, Contract]
    shards: Mapping[str, Contract] = field(default_factory=dict)
    derived: type[Section] = Section

    def derived_of(self, job: Job) -> Any:
        """The validated derived values of a job; ConfigError names the key at fault."""
        return parse_config(self.derived, job.derived, f"{self.name}.derived")

    def added_by(self, job: Job) -> Mapping[str, Contract]:
        """What the job writes; ConfigError for a shard of a stage that has none."""
        if job.shard and not self.shards:
            raise ConfigError(f"stage {self.name} has no shards; generate and regenerate have.")
        return self.shards if job.shard else self.adds


@dataclass(frozen=True)
class Job:
    """One canonical JSON, the only param of a rule: which stage, where in the experiment, with which section.

    shard: `0of4`, or empty, which is left out of the JSON: the whole.
    derived: values that follow from other sections and change the stage's bytes; left out of the JSON where empty.
    """

    stage: str
    version: int
    seed: int
    config: dict[str, Any]
    arm: str = ""
    iteration: int = 0
    shard: str = ""
    derived: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, text: str) -> Job:
        try:
            return cls(**json.loads(text))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"--job is not a stage's job description: {error}") from error

    def to_json(self) -> str:
        optional = ("shard", "derived")
        return canonical_json({key: value for key, value in self.__dict__.items() if key not in optional or value})

    @property
    def place(self) -> str:
        """`{arm}/s{seed}/i{iteration}`, or the seed alone for what all arms share."""
        return place_name(self.arm, self.seed, self.iteration) if self.arm else f"s{self.seed}"

    @property
    def title(self) -> str:
        """Place, stage and shard, for the lines that a reader sees."""
        return " ".join(filter(None, (self.place, self.stage, self.shard)))


@dataclass
class Context:
    """What a running stage may know beyond its tables: who it is, its seed, where to write a policy, how to speak."""

    job: Job
    outputs: dict[str, Path]
    console: Console
    provenance: dict[str, Any]
    figures: dict[str, float] = field(default_factory=dict)
    """What the stage wants in its record: figures that a repetition would change, such as shares of time."""
    derived: Any = field(default_factory=Section)
    """What the stage needs to know of other sections: an instance of its `Stage.derived`."""
    run: RunContext = field(default_factory=RunContext)
    """What the run tells its stages; it changes none of their bytes."""

    def seed(self, *labels: str | int) -> int:
        """Of this stage in this iteration. The arm is no part of it: arms share their noise as long as they agree."""
        return derive_seed(self.job.seed, self.job.stage, self.job.iteration, *labels)

    def run_seed(self, *labels: str | int) -> int:
        """Of this stage in all iterations of a seed."""
        return derive_seed(self.job.seed, self.job.stage, *labels)

    def manifest(self, role: str) -> dict[str, Any]:
        """Provenance for the manifest of a policy that this stage writes."""
        return {**self.provenance, "name": f"{self.job.place}/{role}"}

    def progress(self, total: int, unit: str) -> Progress:
        return Progress(self.console, total, unit)


@dataclass
class Inputs:
    """Checked tables by role, and paths of policies."""

    tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    paths: dict[str, Path] = field(default_factory=dict)
    contracts: dict[str, Contract] = field(default_factory=dict)

    def __getitem__(self, role: str) -> pl.DataFrame:
        """The table of a role; an absent optional role is its contract's empty table."""
        if role in self.tables:
            return self.tables[role]
        contract = self.contracts[role]
        assert issubclass(contract, dy.Schema)
        return contract.create_empty()

    def __contains__(self, role: str) -> bool:
        return role in self.paths

    def labelled(self, role: str) -> dict[str, pl.DataFrame]:
        """label -> table of a role that may be given any number of times."""
        return {name.partition(":")[2]: t for name, t in self.tables.items() if name.startswith(f"{role}:")}

    def policy(self, role: str = "policy") -> Path:
        """Path of a policy's manifest."""
        return self.paths[role]
