"""Asks, once Snakemake has planned a run, whether the files that it keeps belong to the configuration.

Snakemake calls `onstart` before the first job only, and not at all where nothing is left to do, and its plan is known
after the Snakefile has been read. So the check follows the building of the plan itself.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from extra_rl.errors import InputError
from extra_rl.results import file_name
from extra_rl.run.clock import bring_back, note
from extra_rl.run.consistency import START, Kept, compare, message, remade_note
from extra_rl.run.identity import has_identity
from extra_rl.tables.files import remove_temporary
from extra_rl.tracking.store import unfinished
from stages.experiment import or_exit

MISSING_SHOWN = 3


def check_when_planned(
    workflow: Any, results: str, prepare: Callable[[], None], outdated: Callable[[], list[str]]
) -> None:
    """Let Snakemake's workflow refuse, after it has planned a run or a dry run, files that do not belong to it.

    The process of a single job (on a cluster) does not check, nor do commands that only list or delete files. Tracking
    jobs whose tracker was unavailable are planned again.

    Args:
        prepare: is called before a run is planned, but not before a dry run.
        outdated: returns files that are to be made again, although Snakemake may not know it.
    """
    build = workflow._build_dag

    def build_and_check() -> None:
        runs = workflow.is_main_process and workflow.executor_plugin is not None
        if runs and not workflow.dryrun:
            prepare()
        if runs and (again := [*or_exit(unfinished, Path(results)), *outdated()]):
            workflow.dag.forcefiles.update(again)
        if runs and not workflow.dryrun:
            or_exit(mend_times, Path(results))
        build()
        if runs:
            or_exit(check, workflow.dag, Path(results))

    workflow._build_dag = build_and_check


def mend_times(results: Path) -> None:
    """Set times in the future to the present, with a note. InputError where a time cannot be changed."""
    try:
        said = note(results, bring_back(results))
    except OSError as error:
        raise InputError(
            f"{error.filename or results}: its time lies in the future and cannot be set ({error.strerror}). Correct "
            "the clock or the owner of the file, and run again."
        ) from error
    if said:
        print(f"NOTE: {said}", file=sys.stderr, flush=True)


def remove_leftovers(results: str) -> None:
    """Remove the temporary files of a run that was killed; the caller holds the run's lock."""
    remove_temporary(Path(results))


def check(dag: Any, results: Path) -> None:
    """InputError where a file that is kept has another job, place or ancestry than it should; a note where a file is
    missing that nothing left to do reads, and where finished files are made again by another configuration."""
    kept, missing, remade = [], [], []
    for job in _jobs_of_stages(dag, results):
        if dag.needrun(job):
            made = [path for path in map(Path, job.output) if path.is_file() and has_identity(path)]
            remade += [Kept(path, _jobs(job)) for path in made]
            continue
        jobs = _jobs(job)
        after = tuple(Path(path) for other in dag.dependencies[job] for path in other.output)
        read = {name for path in job.input if (name := file_name(Path(path)))}
        starts = frozenset(name for name in read if START.fullmatch(name))
        for path in map(Path, job.output):
            if not path.is_file():
                missing.append(path)
            elif has_identity(path):
                kept.append(Kept(path, jobs, after, Path(job.output[0]), starts))
    findings = compare(results, kept)
    if findings.reasons:
        raise InputError(message(results, findings, this_command()))
    if note := remade_note(results, remade):
        print(note, file=sys.stderr, flush=True)
    if missing:
        shown = " ".join(map(str, missing[:MISSING_SHOWN])) + (" ..." if len(missing) > MISSING_SHOWN else "")
        print(
            f"NOTE: {len(missing)} file(s) of finished stages are missing. Nothing that is left to do reads them, so "
            "they are not made again, and readers leave their iterations out. To make them:\n"
            f"  {this_command()} -- {shown}",
            file=sys.stderr,
            flush=True,
        )


def this_command() -> str:
    """The command line that planned this run, without the flag of a dry run."""
    words = [word for word in sys.argv[1:] if word not in ("-n", "--dry-run", "--dryrun")]
    return (
        shlex.join(["snakemake", *words]) if Path(sys.argv[0]).name in ("snakemake", "__main__.py") else "snakemake ..."
    )


def _jobs_of_stages(dag: Any, results: Path) -> Iterator[Any]:
    """The jobs of stages, in the order in which data flows."""
    for level in dag.toposorted():
        for job in sorted(level, key=lambda job: str(job.output)):
            if not job.output or not {"job", "jobs"} & dict(job.rule.params.items()).keys():
                continue
            if all(Path(path).is_relative_to(results) for path in job.output):
                yield job


def _jobs(job: Any) -> dict[str, dict[str, Any]]:
    """Stage -> job of a rule: one, or with `granularity: iteration` those of all stages. Other rules have none."""
    named = dict(job.params.items())
    if "jobs" in named:
        return dict(json.loads(named["jobs"]))
    one = json.loads(named["job"])
    return {one["stage"]: one}
