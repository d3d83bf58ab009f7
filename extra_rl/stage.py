"""The runner of a stage: read and check, run, check and write, say where it came from.

One code path for Snakemake, for a run by hand and for the warm worker. A stage itself is a pure-looking function
from checked tables to tables (`stages/*.py`); everything about files, provenance and records is here.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dataframely as dy
import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError

from extra_rl.errors import ConfigError, InputError
from extra_rl.progress import Console, Progress
from extra_rl.seeding import derive_seed
from extra_rl.tables.files import (
    canonical_json,
    file_digest,
    read_provenance,
    read_table,
    write_table,
    write_whole,
)

PACKAGES = ("torch", "transformers", "polars", "pyarrow")
"""Packages whose versions can change a stage's bytes; they go into every footer."""


class StageConfig(BaseModel):
    """Base of every stage's `Config`: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class PolicyDirectory:
    """Marks an input or output that is a policy: a directory of safetensors whose manifest.json is the file named."""


class JsonFile:
    """Marks an output that the stage writes itself, for readers outside of the pipeline."""


Contract = type[dy.Schema] | type[PolicyDirectory] | type[JsonFile]


@dataclass(frozen=True)
class Stage:
    """What a stage is called, what it reads and adds.

    reads: role -> contract; a role that ends in `?` may be absent (nothing came before iteration 0), one that ends in
        `*` may be given any number of times, as `role:label`.
    version: raised by hand whenever the same inputs and config give other bytes; it is part of the rule's one param.
    """

    name: str
    version: int
    reads: Mapping[str, Contract]
    adds: Mapping[str, Contract]


@dataclass(frozen=True)
class Job:
    """One canonical JSON, the only param of a rule: which stage, where in the experiment, with which section."""

    stage: str
    version: int
    seed: int
    config: dict[str, Any]
    arm: str = ""
    iteration: int = 0

    @classmethod
    def from_json(cls, text: str) -> Job:
        try:
            return cls(**json.loads(text))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"--job is not a stage's job description: {error}") from error

    def to_json(self) -> str:
        return canonical_json(self.__dict__)

    @property
    def place(self) -> str:
        """`{arm}/s{seed}/i{iteration}`, or the seed alone for what all arms share."""
        return f"{self.arm}/s{self.seed}/i{self.iteration}" if self.arm else f"s{self.seed}"


@dataclass
class Context:
    """What a running stage may know beyond its tables: who it is, its seed, where to write a policy, how to speak."""

    job: Job
    outputs: dict[str, Path]
    console: Console
    provenance: dict[str, Any]

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


Run = Callable[[Inputs, Any, Context], Mapping[str, pl.DataFrame]]


def execute(
    stage: Stage,
    config_class: type[StageConfig],
    run: Run,
    job: Job,
    inputs: Mapping[str, Path],
    outputs: Mapping[str, Path],
    log: Path | None,
) -> None:
    """Runs one stage from files to files.

    Raises ConfigError for a bad section or missing roles, InputError for a missing or stale file, ContractError when
    a table breaks its contract. No output appears unless the stage ran to its end.
    """
    started = datetime.now(UTC).isoformat(timespec="milliseconds")
    wall, cpu = time.perf_counter(), time.process_time()
    config = parse_config(config_class, job.config, stage.name)
    expect_version(stage, job)
    with Console(log) as console:
        given, identities = gather(stage, inputs)
        missing = set(stage.adds) - set(outputs)
        if missing:
            raise ConfigError(f"stage {stage.name} also writes {', '.join(sorted(missing))}: name a path for each.")
        footer = provenance(job, identities)
        context = Context(job, dict(outputs), console, footer)
        before, before_cpu = time.perf_counter(), time.process_time()
        made = run(given, config, context)
        run_seconds, run_cpu = time.perf_counter() - before, time.process_time() - before_cpu
        for role, contract in stage.adds.items():
            if issubclass(contract, dy.Schema):
                name = f"{job.place}/{outputs[role].stem}"
                write_table(made[role], outputs[role], contract, {**footer, "name": name})
    record = {
        "stage": stage.name,
        "job": job.to_json(),
        "inputs": {role: str(path) for role, path in inputs.items()},
        "outputs": {role: str(path) for role, path in outputs.items()},
        "started": started,
        "run_s": run_seconds,
        "run_cpu_s": run_cpu,
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - cpu + children_cpu_seconds(),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "warm": "EXTRA_WARM" in os.environ,
        "host": platform.node(),
    }
    text = json.dumps(record, indent=1)
    write_whole(record_path(next(iter(outputs.values()))), lambda tmp: tmp.write_text(text))


def record_path(output: Path) -> Path:
    """Where the record of the run that made `output` lies: times, memory, inputs. An input of no rule."""
    return output.with_name(f"{output.stem}.run.json")


def children_cpu_seconds() -> float:
    """CPU-seconds of finished child processes (verifier workers)."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def parse_config(config_class: type[StageConfig], section: Mapping[str, Any], name: str) -> Any:
    """The validated section; ConfigError names the key, what was given and what is allowed."""
    try:
        return config_class.model_validate(dict(section))
    except ValidationError as error:
        lines = [f"  {line}" for line in mistakes(error, config_class, name)]
        raise ConfigError("the configuration is not valid:\n" + "\n".join(lines)) from None


def mistakes(error: ValidationError, config_class: type[BaseModel], where: str) -> list[str]:
    """One line for every mistake in a section: its place below `where`, and what is wrong with it."""
    return [f"{'.'.join([where, *map(str, e['loc'])])}: {_reason(e, config_class)}" for e in error.errors()]


def _reason(error: Any, config_class: type[BaseModel]) -> str:
    if error["type"] == "extra_forbidden":
        known = ", ".join(sorted(config_class.model_fields)) if len(error["loc"]) == 1 else "see config/README.md"
        return f"unknown key (known here: {known})"
    if error["type"] == "value_error":  # said by a validator of ours
        return str(error["ctx"]["error"])
    return f"{error['msg']} (given: {error['input']!r})"


def expect_version(stage: Stage, job: Job) -> None:
    if job.stage != stage.name or job.version != stage.version:
        raise ConfigError(
            f"the job asks for {job.stage} version {job.version}, this code is {stage.name} version {stage.version}. "
            "Start snakemake again from this checkout."
        )


def gather(stage: Stage, paths: Mapping[str, Path]) -> tuple[Inputs, dict[str, dict[str, Any]]]:
    """Reads and checks every input; returns them with their identities for the footer.

    Refuses stale files: when an input was itself made from another version of a file that is given here too.
    """
    declared = {role.rstrip("?*"): contract for role, contract in stage.reads.items()}
    required = {role for role in stage.reads if not role.endswith(("?", "*"))}
    known = declared | {role: declared[base] for role in paths if (base := role.partition(":")[0]) in declared}
    unknown, absent = set(paths) - set(known), required - set(paths)
    if unknown or absent:
        raise ConfigError(
            f"stage {stage.name} reads {', '.join(stage.reads)}; "
            + (f"unknown: {', '.join(sorted(unknown))}. " if unknown else "")
            + (f"missing: {', '.join(sorted(absent))}." if absent else "")
        )
    inputs = Inputs(contracts=known)
    identities: dict[str, dict[str, Any]] = {}
    made_from: dict[str, dict[str, str]] = {}
    for role, path in paths.items():
        contract = known[role]
        inputs.paths[role] = path
        if issubclass(contract, dy.Schema):
            inputs.tables[role] = read_table(path, contract)
            footer = read_provenance(path)
        else:
            footer = _read_manifest(path)
        name = footer.get("name", role)
        identities[role] = {"name": name, "digest": footer.get("digest") or file_digest(path)}
        made_from[role] = {i["name"]: i["digest"] for i in footer.get("inputs", {}).values()}
    refuse_stale(stage, paths, identities, made_from)
    return inputs, identities


def refuse_stale(
    stage: Stage,
    paths: Mapping[str, Path],
    identities: Mapping[str, Mapping[str, str]],
    made_from: Mapping[str, Mapping[str, str]],
) -> None:
    """InputError when two inputs disagree about a third file, given here too or not: one of them is old or foreign."""
    known = {identity["name"]: (identity["digest"], paths[role]) for role, identity in identities.items()}
    for role, ancestors in made_from.items():
        for name, digest in ancestors.items():
            seen, witness = known.setdefault(name, (digest, paths[role]))
            if seen != digest:
                raise InputError(
                    f"{paths[role]} was made from another version of {name} than {witness} stands for, so {stage.name} "
                    f"would mix the two. Delete {paths[role]} and run again; snakemake rebuilds it."
                )


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path}: no such policy. Run the stage that makes it, or check the path.") from None
    except ValueError as error:
        raise InputError(f"{path}: not a policy manifest ({error}).") from error
    assert isinstance(manifest, dict)
    return manifest


def provenance(job: Job, identities: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """What the same config reproduces: job, inputs by name and digest, package versions. No time, no host."""
    return {
        "job": json.loads(job.to_json()),
        "inputs": dict(identities),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }
