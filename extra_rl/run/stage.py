"""The declaration of a stage, the job that it runs for, and what it is given while it runs.

A stage is a function from checked tables to tables (`stages/*.py`). The runner (`extra_rl/run/execute.py`) handles
files, provenance and records.
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
    """Marks an output that the stage writes itself, for readers outside the pipeline."""


class SourceFile:
    """Marks an input that no stage made: a user's file of problems, identified by the digest of its bytes."""


Contract = type[dy.Schema] | type[PolicyDirectory] | type[JsonFile] | type[SourceFile]


@dataclass(frozen=True)
class Stage:
    """The name and version of a stage, and what it reads and writes.

    Args:
        version: raised by hand whenever the same inputs and section give other bytes; part of the rule's one param.
        reads: role -> contract. A role that ends in `?` may be absent (nothing precedes iteration 0); one that ends in
            `*` may be given any number of times, as `role:label`.
        writes: role -> contract.
        shards: what one shard writes instead; empty: the stage cannot be sharded.
        derived: the values that it takes from other sections (`extra_rl.config.derived`); an empty section: none.
    """

    name: str
    version: int
    reads: Mapping[str, Contract]
    writes: Mapping[str, Contract]
    shards: Mapping[str, Contract] = field(default_factory=dict)
    derived: type[Section] = Section

    def derived_of(self, job: Job) -> Any:
        """The validated derived values of a job; ConfigError names the key at fault."""
        return parse_config(self.derived, job.derived, f"{self.name}.derived")

    def written_by(self, job: Job) -> Mapping[str, Contract]:
        """Role -> contract of what the job writes; ConfigError for a shard of a stage that cannot be sharded."""
        if job.shard and not self.shards:
            raise ConfigError(f"stage {self.name} has no shards; generate and regenerate have.")
        return self.shards if job.shard else self.writes


@dataclass(frozen=True)
class Job:
    """The only param of a rule, as canonical JSON: which stage, where in the experiment, with which section.

    Args:
        config: the stage's validated section.
        arm: folder of the arm; empty for what all arms share.
        shard: `0of4`; empty, and then left out of the JSON, for a whole stage.
        derived: values that follow from other sections and change the stage's bytes; left out of the JSON where empty.
        since: iteration from which the arm's schedule has given the stage this section; left out where it is 0.
    """

    stage: str
    version: int
    seed: int
    config: dict[str, Any]
    arm: str = ""
    iteration: int = 0
    shard: str = ""
    derived: dict[str, Any] = field(default_factory=dict)
    since: int = 0

    @classmethod
    def from_json(cls, text: str) -> Job:
        try:
            return cls(**json.loads(text))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"--job is not a stage's job description: {error}") from error

    def to_json(self) -> str:
        optional = ("shard", "derived", "since")
        return canonical_json({key: value for key, value in self.__dict__.items() if key not in optional or value})

    @property
    def place(self) -> str:
        """`{arm}/s{seed}/i{iteration}`, or `s{seed}` for what all arms share."""
        return place_name(self.arm, self.seed, self.iteration) if self.arm else f"s{self.seed}"

    @property
    def title(self) -> str:
        """Place, stage and shard, for messages."""
        return " ".join(filter(None, (self.place, self.stage, self.shard)))


@dataclass
class Context:
    """What a running stage is given besides its tables: its job, seeds, output paths, and the console."""

    job: Job
    outputs: dict[str, Path]
    console: Console
    provenance: dict[str, Any]
    figures: dict[str, float] = field(default_factory=dict)
    """Figures for the stage's record that a repetition would change, such as shares of time."""
    derived: Any = field(default_factory=Section)
    """The values that follow from other sections: an instance of the stage's `Stage.derived`."""
    run: RunContext = field(default_factory=RunContext)
    """The context of the run, which changes no byte of any table."""

    def seed(self, *labels: str | int) -> int:
        """Seed of this stage in this iteration. The arm is not part of it: arms share their noise while they agree."""
        return derive_seed(self.job.seed, self.job.stage, self.job.iteration, *labels)

    def run_seed(self, *labels: str | int) -> int:
        """Seed of this stage, the same in all iterations of an experiment seed."""
        return derive_seed(self.job.seed, self.job.stage, *labels)

    def manifest(self, role: str) -> dict[str, Any]:
        """Provenance for the manifest of a policy that this stage writes. role: names the policy."""
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
        """Label -> table, for a role that may be given any number of times."""
        return {name.partition(":")[2]: t for name, t in self.tables.items() if name.startswith(f"{role}:")}

    def policy(self, role: str = "policy") -> Path:
        """Path of a policy's manifest."""
        return self.paths[role]
