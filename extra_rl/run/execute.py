"""The runner of a stage: read and check the inputs, run it, check and write the outputs with their provenance.

Snakemake, a run by hand and the warm worker use the same code path.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import resource
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import dataframely as dy
import polars as pl

from extra_rl import __version__
from extra_rl.config.section import StageConfig, parse_config
from extra_rl.devices.acquire import device_seconds
from extra_rl.errors import ConfigError, InputError
from extra_rl.models.digests import MANIFEST, with_files
from extra_rl.models.policy import read_manifest
from extra_rl.models.probe import forget_probes, probes_made
from extra_rl.models.watch import WeightsWatch
from extra_rl.run.context import RunContext
from extra_rl.run.identity import content_digest, require_place
from extra_rl.run.progress import Console, started_line
from extra_rl.run.records import DIGESTS, NODES
from extra_rl.run.stage import Context, Inputs, Job, PolicyDirectory, SourceFile, Stage
from extra_rl.tables.files import file_digest, read_provenance, read_table, write_table, write_whole

PACKAGES = ("torch", "transformers", "polars", "pyarrow")
"""Packages whose versions can change a stage's bytes; every footer records them."""

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
    """Run one stage from files to files. No output appears unless the stage runs to its end.

    Args:
        config_class: the stage's `Config`, which validates the job's section.
        run: the stage's function.
        inputs: role -> file.
        outputs: role -> file.
        log: file to which the console's lines are also appended; None: no file.

    Raises ConfigError for a bad section or missing roles, InputError for a missing or stale file, ContractError when
    a table breaks its contract.
    """
    started = datetime.now(UTC).isoformat(timespec="milliseconds")
    wall, cpu = time.perf_counter(), time.process_time() + children_cpu_seconds()
    config = parse_config(config_class, job.config, stage.name)
    expect_version(stage, job)
    derived, run_context = stage.derived_of(job), RunContext.of_outputs(outputs.values())
    with Console(log) as console:
        console.note(started_line(started, os.getpid(), platform.node()))
        given, identities = gather(stage, inputs)
        writes = stage.written_by(job)
        missing = set(writes) - set(outputs)
        if missing:
            raise ConfigError(f"stage {stage.name} also writes {', '.join(sorted(missing))}: name a path for each.")
        footer = provenance(job, identities)
        context = Context(job, dict(outputs), console, footer, derived=derived, run=run_context)
        forget_probes()
        before, before_cpu = time.perf_counter(), time.process_time()
        weights = WeightsWatch(policies_of(given))
        made = run(given, config, context)
        weights.require_unchanged()
        run_seconds, run_cpu = time.perf_counter() - before, time.process_time() - before_cpu
        for role, contract in writes.items():
            if issubclass(contract, dy.Schema):
                name = f"{job.place}/{outputs[role].stem}"
                write_table(made[role], outputs[role], contract, {**footer, "name": name})
    record = {
        "stage": stage.name,
        "job": job.to_json(),
        "inputs": {role: str(path) for role, path in inputs.items()},
        "outputs": {role: str(path) for role, path in outputs.items()},
        DIGESTS: {
            path.name: file_digest(path)
            for path in outputs.values()
            if path.suffix == ".json" and path.name != MANIFEST and path.is_file()
        },
        "started": started,
        "code": run_context.code or __version__,
        "run_s": run_seconds,
        "run_cpu_s": run_cpu,
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() + children_cpu_seconds() - cpu,
        "device_s": device_seconds(wall) * context.figures.get(NODES, 1),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "figures": context.figures,
        "models": [probe.summary() for probe in probes_made()],
        "warm": "EXTRA_WARM" in os.environ,
        "host": platform.node(),
    }
    text = json.dumps(record, indent=1)
    write_whole(record_path(next(iter(outputs.values()))), lambda tmp: tmp.write_text(text))


def record_path(output: Path) -> Path:
    """Path of the record of the run that made `output`: times, memory, inputs. It is an input of no rule."""
    return output.with_name(f"{output.stem}.run.json")


def children_cpu_seconds() -> float:
    """CPU-seconds of finished child processes (verifier workers)."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def expect_version(stage: Stage, job: Job) -> None:
    if job.stage != stage.name or job.version != stage.version:
        raise ConfigError(
            f"the job is for {job.stage} version {job.version}, this code is {stage.name} version {stage.version}. "
            "Start snakemake again from this checkout."
        )


def gather(stage: Stage, paths: Mapping[str, Path]) -> tuple[Inputs, dict[str, dict[str, Any]]]:
    """Read and check every input; return them with their identities (name and digest) for the footer.

    Raises InputError for a damaged file, for one of another arm, seed or iteration, and for a stale file: one that was
    made from another version of a file that is also given.
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
            digest = content_digest(path)
        elif contract is SourceFile:
            footer = {}
            if not path.is_file():
                raise InputError(f"{path}: no such file of problems. Check the paths in the configuration.")
            digest = file_digest(path)
        else:
            footer = read_manifest(path)
            digest = footer["digest"]
        if contract is not SourceFile:
            require_place(path, footer)
        name = footer.get("name", role)
        identities[role] = {"name": name, "digest": digest}
        made_from[role] = {i["name"]: i["digest"] for i in footer.get("inputs", {}).values()}
    refuse_stale(stage, paths, identities, made_from)
    return inputs, identities


def policies_of(inputs: Inputs) -> list[Path]:
    """The directories that hold the files of the policies among the inputs."""
    roles = [role for role in inputs.paths if inputs.contracts[role] is PolicyDirectory]
    return [with_files(inputs.paths[role].parent) for role in roles]


def refuse_stale(
    stage: Stage,
    paths: Mapping[str, Path],
    identities: Mapping[str, Mapping[str, str]],
    made_from: Mapping[str, Mapping[str, str]],
) -> None:
    """Raise InputError when two inputs were made from different versions of a third file: one of them is stale.

    The third file may or may not be an input itself.

    Args:
        paths: role -> file, for the message.
        identities: role -> name and digest of an input.
        made_from: role -> name -> digest of the files that an input was made from.
    """
    known = {identity["name"]: (identity["digest"], paths[role]) for role, identity in identities.items()}
    for role, ancestors in made_from.items():
        for name, digest in ancestors.items():
            seen, witness = known.setdefault(name, (digest, paths[role]))
            if seen != digest:
                raise InputError(
                    f"{paths[role]} was made from another version of {name} than {witness} stands for, so {stage.name} "
                    f"would mix the two. Delete {paths[role]} and run again; snakemake rebuilds it."
                )


def provenance(job: Job, identities: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Return what the same configuration reproduces: job, inputs by name and digest, package versions."""
    return {
        "job": json.loads(job.to_json()),
        "inputs": dict(identities),
        "packages": {name: version_of(name) for name in PACKAGES},
    }


@cache
def version_of(package: str) -> str:
    """Return the version of an installed package, read once per process: its metadata costs 2 ms, for every stage."""
    return importlib.metadata.version(package)
