"""The command line of a stage: Snakemake names all files; by hand, a stage is re-run from the record of a run.

python -m stages novelty --help
python -m stages novelty --rerun results/tiny/extra/s0/iteration_0003/novelty.parquet --to /tmp/out
python -m stages novelty --rerun .../novelty.parquet --to /tmp/out --set measure=lexical
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from extra_rl.config.section import Section
from extra_rl.errors import ConfigError, ExtraError, InputError, disk_fault
from extra_rl.run.execute import execute, record_path
from extra_rl.run.records import read_record
from extra_rl.run.stage import Job, Stage
from stages import STAGES, iteration
from stages.load import load


def main(argv: list[str]) -> int:
    """Run one stage; return the exit code. An error of the user is one message on standard error."""
    if not argv or argv[0] in ("-h", "--help"):
        print(overview())
        return 0
    name = argv[0]
    try:
        if argv[0] == "iteration":
            iteration.main(argv[1:])
            return 0
        if argv[0] == "cell":
            from stages import cells  # only within an allocation of a cluster

            cells.main(argv[1:])
            return 0
        if argv[0] == "track":
            from stages import track  # only where a tracker is named

            track.main(argv[1:])
            return 0
        name, words = stage_in(argv)
        module = load(name)
        arguments = parser(module).parse_args(words)
        job, inputs, outputs = plan(module.STAGE, arguments)
        execute(module.STAGE, module.Config, module.run, job, inputs, outputs, arguments.log)
        if arguments.rerun:
            print("\n".join(written(outputs)), flush=True)
    except ExtraError as error:
        print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except OSError as error:
        fault = disk_fault(error)
        if fault is None:
            raise
        print(f"{name}: InputError: {fault}", file=sys.stderr, flush=True)
        return fault.exit_code
    return 0


def written(outputs: Mapping[str, Path]) -> Iterator[str]:
    """A line for each file that was written by hand: its path, and the rows of a table."""
    from pyarrow.parquet import read_metadata

    for path in outputs.values():
        rows = f" ({read_metadata(path).num_rows} rows)" if path.suffix == ".parquet" else ""
        yield f"wrote {path}{rows}"


def stage_in(argv: list[str]) -> tuple[str, list[str]]:
    """The stage's name and the arguments of its parser. The workflow names the stage only in the job."""
    if argv[0] == "--job" and len(argv) > 1:
        return Job.from_json(argv[1]).stage, argv
    return argv[0], argv[1:]


def overview() -> str:
    lines = ["usage: python -m stages STAGE [--help]", ""]
    lines += [f"  {name:<16}{(load(name).__doc__ or '').splitlines()[0]}" for name in STAGES]
    return "\n".join(lines)


def parser(module: ModuleType) -> argparse.ArgumentParser:
    stage: Stage = module.STAGE
    epilog = ["configuration (--set KEY=VALUE):", *described(module.Config)]
    if stage.derived.model_fields:
        epilog += ["", "derived from other sections (--derived KEY=VALUE):", *described(stage.derived)]
    result = argparse.ArgumentParser(
        prog=f"python -m stages {stage.name}",
        description=module.__doc__,
        epilog="\n".join(epilog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("--job", help="canonical JSON: stage, version, seed, place and section (set by Snakemake)")
    result.add_argument("--input", nargs="*", default=[], metavar="ROLE=PATH", help=f"roles: {', '.join(stage.reads)}")
    result.add_argument(
        "--output", nargs="*", default=[], metavar="ROLE=PATH", help=f"roles: {', '.join(stage.writes)}"
    )
    result.add_argument(
        "--rerun", type=Path, metavar="FILE", help="repeat the run that made FILE, with the same inputs"
    )
    result.add_argument("--to", type=Path, metavar="DIR", help="with --rerun: folder for the new outputs")
    result.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="change keys of the section (YAML)")
    result.add_argument(
        "--derived", nargs="*", default=[], metavar="KEY=VALUE", help="change values that follow from other sections"
    )
    result.add_argument("--log", type=Path, help="also write the output to this file")
    return result


def described(section: type[Section]) -> Iterator[str]:
    """A line for each key of a section: its meaning and default."""
    for name, field in section.model_fields.items():
        default = f"default: {field.get_default(call_default_factory=True)}"
        yield f"  {name}: {field.description or ''} ({'required' if field.is_required() else default})"


def plan(stage: Stage, arguments: argparse.Namespace) -> tuple[Job, dict[str, Path], dict[str, Path]]:
    """The job and its files, as named on the command line or in the record of a previous output."""
    if arguments.rerun:
        if not arguments.to:
            raise ConfigError("--rerun needs --to DIR, so that nothing is overwritten.")
        record = record_of(arguments.rerun)
        job = Job.from_json(record["job"])
        if job.stage != stage.name:
            raise ConfigError(f"{arguments.rerun} was made by another stage: python -m stages {job.stage} --rerun ...")
        inputs = {role: Path(path) for role, path in record["inputs"].items()}
        root = _common_parent([Path(path) for path in record["outputs"].values()])
        outputs = {r: arguments.to / Path(path).relative_to(root) for r, path in record["outputs"].items()}
    else:
        if not arguments.job:
            raise ConfigError("name the work: --rerun FILE --to DIR, or --job, --input and --output (see --help).")
        job = Job.from_json(arguments.job)
        inputs, outputs = {}, {}
    inputs |= pairs(arguments.input)
    outputs |= pairs(arguments.output)
    job = dataclasses.replace(
        job,
        config=override(job.config, arguments.set, "--set"),
        derived=override(job.derived, arguments.derived, "--derived"),
    )
    return job, inputs, outputs


def pairs(given: list[str]) -> dict[str, Path]:
    """Parse `role=path` words; a role with an empty path is absent (nothing precedes iteration 0)."""
    split = [word.partition("=") for word in given]
    return {role: Path(path) for role, _, path in split if path}


def override(values: Mapping[str, Any], changes: list[str], option: str) -> dict[str, Any]:
    """Return the values with some keys changed; ConfigError, which names the option, for an invalid change."""
    result = copy.deepcopy(dict(values))
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise ConfigError(f"{option} {change}: expected KEY=VALUE.")
        *parents, last = key.split(".")
        section = result
        for parent in parents:
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                raise ConfigError(f"{option} {change}: `{parent}` is a value without keys.")
        try:
            section[last] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ConfigError(f"{option} {change}: not a YAML value; quote it if it is text.") from None
    return result


def record_of(output: Path) -> dict[str, Any]:
    """Return the run record of a table. Raises InputError where it is missing or damaged."""
    path = record_path(output)
    if not path.is_file():
        raise InputError(f"{path}: no record of how {output} was made; name --job, --input and --output.")
    return read_record(path)


def _common_parent(paths: list[Path]) -> Path:
    parents = [set(path.parents) for path in paths]
    return max(set.intersection(*parents), key=lambda p: len(p.parts))
