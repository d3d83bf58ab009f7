"""An arm and seed as one job (`granularity: run` on a cluster, `one_process` anywhere): `python -m stages cell`.

With `one_process` the job runs all stages itself (`stages.cell_process`). Otherwise it is one allocation of a cluster.
Inside it another Snakemake runs the stages of the arm and seed locally, with the warm worker
and the sampling engine, from the configuration that the run has frozen. It continues from the files that an earlier job
has finished, so a job that was cancelled or ran out of time loses one stage.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from extra_rl.config.derived import derive
from extra_rl.config.experiment import Experiment
from extra_rl.config.files import read_yaml
from extra_rl.config.run import RunConfig
from extra_rl.config.selection import CELL
from extra_rl.errors import ConfigError, ExtraError
from extra_rl.models.policy import read_manifest
from extra_rl.results import CELL_MARK, RunFolder, run_name
from extra_rl.run import lock
from extra_rl.run.identity import content_digest
from extra_rl.tables.files import canonical_json, remove_temporary, write_whole
from stages import STAGES
from stages.load import load
from stages.pipeline import NEXT_POLICY, STEPS

OPTIONS = (
    *("--executor", "local", "--scheduler", "greedy", "--nolock", "--rerun-incomplete"),
    *("--max-checksum-file-size", "10GB", "--profile", "none", "--workflow-profile", "none"),
)
"""Those of the default profile, named here because the caller's profile is one for a cluster."""
QUIET = ("--quiet", "rules", "progress", "host", "reason")


def settings_of(experiment: Experiment, arm: str, seed: int) -> str:
    """Return the SHA-256 of all that decides what the job of an arm and seed makes: the param of the job."""
    run = experiment.run
    one_process = {"derived": _derived(experiment, arm)} if run.one_process else {}
    text = canonical_json(
        one_process
        | {
            "cell": run_name(arm, seed),
            "start": run.warm_start_of(seed),
            "window": [run.first_iteration, run.iterations],
            "evaluate_every": run.evaluate_every,
            "shards": run.generation.shards,
            "sections": experiment.arms[arm],
            "phases": [phase.model_dump(mode="json") for phase in experiment.phases.get(arm, [])],
            "versions": {stage: load(stage).STAGE.version for stage in STAGES},
        }
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _derived(experiment: Experiment, arm: str) -> dict[str, Any]:
    """Values from outside the sections that change what the stages make, such as the source of a user's judge."""
    starts = {0, *(phase.start for phase in experiment.phases.get(arm, []))}
    stages = [*(step.stage for step in STEPS), "evaluate"]
    return {f"{start}/{stage}": derive(experiment, stage, arm, start) for start in sorted(starts) for stage in stages}


def outdated(experiment: Experiment, results: Path) -> list[str]:
    """Return the marks that were made under other settings than today's, so that their arms and seeds run again.

    Snakemake has no record of a mark whose job it did not see end, and none in results that were copied. What the
    Snakemake of the next job keeps of the arm and seed follows from its records and from the footers.
    """
    found = []
    for arm in experiment.arms:
        for seed in experiment.run.seeds:
            path = results / run_name(arm, seed) / CELL_MARK
            if not path.is_file():
                continue
            other = _settings_in(path) != settings_of(experiment, arm, seed)
            if other or (experiment.run.one_process and not _has_targets(experiment.run, RunFolder(path.parent))):
                found.append(str(path))
    return found


def _has_targets(run: RunConfig, cell: RunFolder) -> bool:
    """Whether an arm and seed has the files that a run of single stages makes again when they are gone."""
    last = cell.iteration(run.iterations - 1)
    policies = [cell.iteration(number) / NEXT_POLICY for number in range(run.first_iteration, run.iterations)]
    return all(path.is_file() for path in (*policies, last / "evaluate.parquet", last / "summarize.parquet"))


def _settings_in(mark: Path) -> str:
    """The settings that a mark records; "" where it cannot be read."""
    try:
        return str(json.loads(mark.read_text())["settings"])
    except (ValueError, KeyError, TypeError):
        return ""


def command_of(cell: str, configuration: str, snakefile: str, cores: int) -> list[str]:
    """Return the command line of the Snakemake inside of an allocation."""
    place = ["--snakefile", snakefile, "--configfile", configuration, "--config", f"cell={cell}"]
    return [sys.executable, "-m", "snakemake", "--cores", str(cores), *place, *OPTIONS, *QUIET]


def main(argv: Sequence[str]) -> None:
    """Run an arm and seed to its last iteration and write its marker."""
    parser = argparse.ArgumentParser(prog="python -m stages cell", description=__doc__)
    parser.add_argument("--results", required=True, type=Path, metavar="FOLDER", help="results/<name>")
    parser.add_argument("--arm", required=True, help="folder of the arm")
    parser.add_argument("--seed", required=True, type=int, help="experiment seed")
    parser.add_argument("--last", required=True, type=int, metavar="N", help="number of the last iteration")
    parser.add_argument("--settings", required=True, metavar="SHA256", help="recorded in the mark (`settings_of`)")
    parser.add_argument("--configuration", required=True, metavar="FILE", help="the run's frozen configuration")
    parser.add_argument("--snakefile", default="", metavar="FILE", help="the workflow")
    parser.add_argument("--cores", default=1, type=int, metavar="N", help="cores of the allocation")
    parser.add_argument("--one-process", action="store_true", help="run the stages in this process, without Snakemake")
    parser.add_argument("--lock", action="store_true", help="with --one-process: on a cluster, hold the cell's lock")
    given = parser.parse_args(argv)
    if given.one_process:
        run_here(given)
    else:
        run_snakemake(given)
    write_marker(RunFolder.of(given.results, given.arm, given.seed), given.last, given.settings)


def run_here(given: argparse.Namespace) -> None:
    """Run the stages in this process. ConfigError where the frozen configuration is not the one of the job."""
    from stages.cell_process import run_cell  # these import this module
    from stages.experiment import experiment_of, logs_of, open_engines

    name, file = run_name(given.arm, given.seed), Path(given.configuration)
    experiment = experiment_of(read_yaml(file) | {CELL: name})
    if settings_of(experiment, given.arm, given.seed) != given.settings:
        raise ConfigError(f"{file}: the settings of {name} have changed since this job was planned. Run again.")
    folder = RunFolder.of(given.results, given.arm, given.seed).path
    if given.lock:
        lock.hold(folder)
        open_engines(experiment, logs_of(experiment))
    remove_temporary(folder)
    run_cell(experiment, given.arm, given.seed)


def run_snakemake(given: argparse.Namespace) -> None:
    """Run the stages by a Snakemake within the allocation. ExtraError where it fails."""
    command = command_of(run_name(given.arm, given.seed), given.configuration, given.snakefile, given.cores)
    print(shlex.join(command), flush=True)
    # A profile that the environment names is the caller's, for a cluster.
    variables = {name: value for name, value in os.environ.items() if name != "SNAKEMAKE_PROFILE"}
    code = subprocess.run(command, env=variables, check=False).returncode
    if code:
        raise ExtraError(
            f"{run_name(given.arm, given.seed)}: the Snakemake in this allocation ended with exit status {code}; its "
            "messages are above. What is finished is kept."
        )


def write_marker(run: RunFolder, last: int, settings: str) -> None:
    """Write the mark of a finished arm and seed. last: number of its last iteration. settings: of `settings_of`."""
    folder = run.iteration(last)
    digests = {name: content_digest(folder / f"{name}.parquet") for name in ("evaluate", "summarize")}
    digests["policy"] = read_manifest(folder / "policy" / "manifest.json")["digest"]
    text = canonical_json({"cell": run.name, "iteration": last, "settings": settings, "digests": digests}) + "\n"
    write_whole(run.path / CELL_MARK, lambda tmp: tmp.write_text(text))
