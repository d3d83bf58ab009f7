"""Makes a run that shares the beginning of another one and differs after it.

extra fork results/tiny --at 5 --name tiny_slow --set update.learning_rate=1e-4
extra fork results/tiny --at 5 --name tiny_long --arms extra --seeds 0,1 --set iterations=60

It writes tiny_slow.yaml, the configuration of results/tiny with the changes from iteration 5 on (`schedule`), and
results/tiny_slow with iterations 0 to 4, the problems and the initial policies. `snakemake --configfile tiny_slow.yaml`
goes on with iteration 5. Nothing in results/tiny changes (docs/course.md).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extra_rl.errors import ConfigError, InputError

if TYPE_CHECKING:
    from extra_rl.config.experiment import Experiment
    from extra_rl.results import RunFolder

HELP = "make a run that shares the first iterations of another and differs after them"
REASONS_SHOWN = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", type=Path, help="folder of the run, for example results/tiny")
    parser.add_argument("--at", type=int, required=True, metavar="N", help="first iteration that is made again")
    parser.add_argument("--name", required=True, metavar="NEW", help="name of the new run, results/NEW")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="changes from N on")
    parser.add_argument("--arms", metavar="A,B", help="arms of the new run; default: all")
    parser.add_argument("--seeds", metavar="0,1", help="seeds of the new run; default: all")
    parser.add_argument(
        "--configfile", type=Path, nargs="+", help="configuration of RESULTS; default: the one in its folder"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="new configuration file; default: NEW.yaml")


def run(arguments: argparse.Namespace) -> int:
    print("\n".join(fork(arguments)))
    return 0


def fork(arguments: argparse.Namespace) -> list[str]:
    """Make the fork; return what was done. Raises ConfigError or InputError before anything is made."""
    from extra_rl.config.forked import changed, changes_of
    from extra_rl.config.selection import Selection, numbers, words
    from extra_rl.results import start_folder
    from extra_rl.run import lock
    from extra_rl.run.configuration import as_yaml, keep_configuration
    from extra_rl.run.fork import FORK_FILE, files_to_share, later_times, read_fork, require_forkable, share
    from extra_rl.tables.files import whole_folder, write_whole
    from stages.experiment import experiment_of

    results, name, at = arguments.results, arguments.name, arguments.at
    target, out = results.absolute().parent / name, arguments.out or Path(f"{name}.yaml")
    refuse_places(results, target, out, at)
    raw = configuration_of(results, arguments.configfile)
    changes = changes_of(arguments.set)
    chosen = Selection(
        words(arguments.arms, "--arms") if arguments.arms else None,
        numbers(words(arguments.seeds, "--seeds")) if arguments.seeds else None,
    )
    experiment_of(raw)  # a mistake in it is none of the fork's changes
    new, notes = changed(raw, name, at, changes, chosen)
    experiment = experiment_of(new)
    if at >= experiment.run.iterations:
        raise ConfigError(
            f"--at {at}: the run ends before this iteration. Give it more: --set iterations={at + 10}, for example."
        )
    runs = runs_of(experiment, results)
    descriptor = lock.hold(results)  # a run that is going on would be forked in the middle of an iteration
    try:
        require_forkable(runs, at, finished_tables(experiment, at), reads_previous_policy(experiment, at))
        starts = [start_folder(start) for start in experiment.run.starts]
        paths = list(files_to_share(results, runs, starts, at))
        refuse_other_configuration(results, experiment, paths, at)
        record = provenance(results, at, changes, policies_of(results, runs, starts, at), read_fork(results))
        with whole_folder(target, lambda: refuse_existing(target)) as unfinished:
            done = share(paths, results, unfinished, name, later_times(paths))
            write_whole(unfinished / FORK_FILE, lambda tmp: tmp.write_text(json.dumps(record, indent=1) + "\n"))
            keep_configuration(new, unfinished)
            title = f"# Made by `extra fork {results} --at {at}`.\n"
            write_whole(out, lambda tmp: tmp.write_text(title + as_yaml(new), encoding="utf-8"))
    finally:
        lock.release(descriptor)
    places = ", ".join(one.name for one in runs)
    return [
        f"{results.parent / name}: forked from {results} at iteration {at}: {places}",
        f"  shared by hard links: {done.linked} files, {done.linked_bytes / 1e6:.1f} MB, which take no more space",
        f"  copied: {done.copied} files, {done.copied_bytes / 1e6:.1f} MB, and {done.records} run records",
        f"  configuration: {out}",
        *(f"NOTE: {note}" for note in notes),
        "Next:",
        f"  snakemake --cores 2 --configfile {out}",
    ]


def refuse_places(results: Path, target: Path, out: Path, at: int) -> None:
    """Raise InputError where there is no run, or where the fork would replace something."""
    from extra_rl.imported.folder import RECORD

    if (results / RECORD).is_file():
        raise InputError(f"{results}: is an import, which has no policies; only runs can be forked.")
    if at < 0:
        raise InputError(f"--at {at}: name an iteration from 0 on.")
    if not results.is_dir():
        raise InputError(f"{results}: no such folder. Name the folder of a run (results/<name>).")
    if results.absolute().parent.name != "results":
        raise InputError(f"{results}: the workflow reads results/<name> only; move the run into a folder `results`.")
    for path in (target, out):
        refuse_existing(path)


def refuse_existing(path: Path) -> None:
    """Raise InputError where a file or folder of this name exists."""
    if path.exists():
        raise InputError(f"{path} exists. Choose another --name, or --out for the configuration file.")


def configuration_of(results: Path, files: Iterable[Path] | None) -> dict[str, Any]:
    """Return the configuration of a run: that of the files, or the one kept in its folder."""
    from extra_rl.config.arms import merge
    from extra_rl.config.files import read_yaml
    from extra_rl.run.configuration import kept_configuration

    raw: dict[str, Any] = {}
    for file in files or ():
        raw = merge(raw, read_yaml(file))
    raw = raw or kept_configuration(results)
    if raw.get("name") != results.absolute().name:
        raise ConfigError(f"the configuration is of the run {raw.get('name')!r}, not of {results}.")
    return raw


def runs_of(experiment: Experiment, results: Path) -> list[RunFolder]:
    """Every arm and seed of the new run, in the folder of the old one."""
    from extra_rl.results import RunFolder

    return [RunFolder.of(results, arm, seed) for arm in experiment.arms for seed in experiment.run.seeds]


def finished_tables(experiment: Experiment, at: int) -> list[str]:
    """Names of the tables of a finished iteration, without the state of `choose_prefixes` that no arm reads in `at`.

    An earlier version may not have written it.
    """
    from stages.pipeline import PREVIOUS, STEPS, outputs_of, stage_of, unread

    state = {f"{PREVIOUS}{role}" for role in stage_of("choose_prefixes").writes}
    unused = state.intersection(
        *(unread("choose_prefixes", experiment.at(arm, at)["choose_prefixes"], {}) for arm in experiment.arms)
    )
    paths = [path for step in STEPS for path in outputs_of(step, ".").values()]
    names = [Path(path).stem for path in paths if path.endswith(".parquet")]
    return [name for name in names if f"{PREVIOUS}{name}" not in unused]


def reads_previous_policy(experiment: Experiment, at: int) -> bool:
    """Whether an arm's iteration `at` reads the policy that sampled the parents of its continuations."""
    from extra_rl.config.derived import derive
    from stages.pipeline import unread

    return any(
        "parents_policy"
        not in unread(
            "score_entropy", experiment.at(arm, at)["score_entropy"], derive(experiment, "score_entropy", arm, at)
        )
        for arm in experiment.arms
    )


def refuse_other_configuration(results: Path, experiment: Experiment, paths: Iterable[Path], at: int) -> None:
    """Raise InputError where a shared file was made with other settings than the fork's configuration gives.

    The workflow would refuse the file later (docs/recovery.md).

    Args:
        results: folder of the run that is forked.
        experiment: configuration of the fork.
        paths: files that are shared.
        at: first iteration that is made again, for the message.
    """
    from extra_rl.results import is_start_folder
    from extra_rl.run.consistency import Kept, compare
    from extra_rl.run.identity import has_identity, identity_of
    from stages.experiment import job_json

    kept = []
    for path in filter(has_identity, paths):
        job = identity_of(path).job
        places = {key: str(job[key]) for key in ("arm", "seed", "iteration", "shard") if job.get("arm") and key in job}
        start = path.relative_to(results).parts[0]
        wildcards = places or ({"start": start} if is_start_folder(start) else {})
        if job:
            expected = json.loads(job_json(experiment, str(job["stage"]), wildcards))
            kept.append(Kept(path, {str(job["stage"]): expected}))
    reasons = compare(results, kept).reasons
    if reasons:
        lines = [f"  {found[0]} and {len(found) - 1} more: {reason}" for reason, found in reasons.items()]
        raise InputError(
            f"files of {results} before iteration {at} were not made with its configuration, so a fork would mix two "
            "experiments:\n" + "\n".join(lines[:REASONS_SHOWN]) + "\nName the right configuration with --configfile, "
            "or let `extra check` find what is wrong."
        )


def policies_of(results: Path, runs: Iterable[RunFolder], starts: Iterable[str], at: int) -> dict[str, str]:
    """Place -> digest of the policies from which the fork goes on.

    Args:
        results: folder of the run that is forked.
        runs: its arms and seeds that are forked.
        starts: folders of its initial policies.
        at: first iteration that is made again.
    """
    from extra_rl.models.digests import MANIFEST
    from extra_rl.models.policy import read_manifest

    folders = [one.iteration(at - 1) for one in runs] if at else [results / start for start in starts]
    return {
        str(folder.relative_to(results)): str(read_manifest(folder / "policy" / MANIFEST)["digest"])
        for folder in folders
    }


def provenance(
    results: Path, at: int, changes: Mapping[str, Any], policies: Mapping[str, str], parent: Mapping[str, Any]
) -> dict[str, Any]:
    """The content of `fork.json`: the run that was forked, where, its policies there, and what was changed.

    Args:
        results: folder of the run that is forked.
        at: first iteration that is made again.
        changes: dotted key -> value.
        policies: `policies_of`.
        parent: `fork.json` of that run; {} if it is no fork.
    """
    import hashlib

    from extra_rl.tables.files import canonical_json

    return {
        "name": results.absolute().name,
        "at": at,
        "digest": hashlib.sha256(canonical_json(policies).encode()).hexdigest(),
        "policies": dict(policies),
        "set": dict(changes),
        "parent": dict(parent) or None,
    }
