"""A run that shares the beginning of another: which iterations can be forked, and the files that are shared.

A shared file is one file with two names (a hard link), where the file system allows it; otherwise it is copied. Writers
of this project replace a file by another with the same name and never write into it, so neither run changes the other's
files. Files that are written in place (logs, locks) are not shared. Run records are copied with their paths corrected.
Source: our decision (docs/course.md).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from extra_rl.errors import InputError, disk_fault
from extra_rl.models.digests import MANIFEST, with_files
from extra_rl.models.policy import OPTIMIZER_FILE, read_manifest
from extra_rl.models.removed import how_to_rebuild, read_removed
from extra_rl.results import RunFolder
from extra_rl.run.records import relocate

FORK_FILE = "fork.json"
RECORD = ".run.json"


@dataclass
class Shared:
    """What was shared: files and bytes by hard links and by copies, and copied records of stages."""

    linked: int = 0
    linked_bytes: int = 0
    copied: int = 0
    copied_bytes: int = 0
    records: int = 0


def fault(run: RunFolder, at: int, tables: Sequence[str], previous_policy: bool) -> str:
    """Say why a run cannot be continued with iteration `at`; empty where it can.

    Args:
        run: one arm and seed.
        at: first iteration that would be made.
        tables: names of the tables of a finished iteration.
        previous_policy: whether iteration `at` reads the policy that iteration `at - 1` sampled from, too.
    """
    if at == 0:
        return ""
    last = run.iteration(at - 1)
    missing = [name for name in tables if not (last / f"{name}.parquet").is_file()]
    if missing or not (last / "policy" / MANIFEST).is_file():
        return f"{last} is not finished: {missing[0] + '.parquet' if missing else 'its policy'} is missing."
    needed = [(last, True)] + ([(run.iteration(at - 2), False)] if previous_policy and at > 1 else [])
    for folder, with_state in needed:
        directory = with_files(folder / "policy")
        for name in read_manifest(directory / MANIFEST)["files"]:
            if (directory / name).is_file() or (name == OPTIMIZER_FILE and not with_state):
                continue
            setting = read_removed(directory).get(name)
            reason = f"was removed ({setting})" if setting else "is missing"
            return f"{directory / name} {reason}. {how_to_rebuild(directory)}"
    return ""


def require_forkable(runs: Sequence[RunFolder], at: int, tables: Sequence[str], previous_policy: bool) -> None:
    """InputError where a run cannot be continued with iteration `at`; it names the iterations that all of them allow.

    Arguments as in `fault`.
    """
    reasons = [(run, reason) for run in runs if (reason := fault(run, at, tables, previous_policy))]
    if not reasons:
        return
    last = max((max(run.iterations("summarize"), default=-1) for run in runs), default=-1)
    possible = [
        number for number in range(1, last + 2) if not any(fault(run, number, tables, previous_policy) for run in runs)
    ]
    run, reason = reasons[0]
    more = f" (and {len(reasons) - 1} more of arm and seed)" if len(reasons) > 1 else ""
    raise InputError(
        f"{run.name}{more} cannot be forked at iteration {at}: {reason}\n"
        f"Iterations that can be forked: {', '.join(map(str, [0, *possible]))} (0 shares the start only)."
    )


def files_to_share(results: Path, runs: Iterable[RunFolder], starts: Iterable[str], at: int) -> Iterator[Path]:
    """Yield the files of a run that a fork shares: problems, initial policies, and the iterations before `at`.

    Hidden files, logs and unfinished work are left out.

    Args:
        results: folder of the run.
        runs: arms and seeds that are shared.
        starts: folders of the initial policies.
        at: first iteration that is made again.
    """
    folders = [results / "prepare", *(results / start for start in starts)]
    folders += [run.iteration(number) for run in runs for number in range(at)]
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            parts = path.relative_to(folder).parts
            if any(part.startswith(".") or part == "logs" or part.endswith(".processes") for part in parts):
                continue
            if path.is_file():
                yield path


def later_times(paths: Iterable[Path]) -> dict[Path, int]:
    """Return file -> time (nanoseconds) for the files that are older than what they were made from, by their records.

    Snakemake keeps such a file where its own records tell that the content was the same (a table that was made again, a
    file of problems that was touched). A fork has no records of Snakemake, so the times have to be in order.
    """
    made_from: dict[Path, set[Path]] = {}
    for record in paths:
        if record.name.endswith(RECORD):
            for output, inputs in _files_of(record):
                made_from[output] = inputs
    times: dict[Path, int] = {}
    for path in TopologicalSorter(made_from).static_order():
        if path.is_file():
            before = [times[source] for source in made_from.get(path, ()) if source in times]
            times[path] = max([path.stat().st_mtime_ns, *before])
    return {path: time for path, time in times.items() if path in made_from and time > path.stat().st_mtime_ns}


def _files_of(record: Path) -> Iterator[tuple[Path, set[Path]]]:
    """Every output of a stage's record, and the inputs, where they lie today; nothing for a damaged record."""
    try:
        content = json.loads(record.read_text())
        outputs, inputs = list(content["outputs"].values()), list(content["inputs"].values())
        record_path = str(Path(outputs[0]).with_name(record.name))
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return
    sources = {relocate(record, record_path, path).resolve() for path in inputs}
    for path in outputs:
        found = relocate(record, record_path, path).resolve()
        yield found, sources - {found}


def share(paths: Iterable[Path], source: Path, target: Path, name: str, later: Mapping[Path, int]) -> Shared:
    """Give the files below `source` a second name below `target`; returns what was done.

    Args:
        paths: files below `source`.
        source: `results/<name>`.
        target: folder that takes the place of `results/NEW`; it may have another name meanwhile.
        name: NEW, for the paths in records.
        later: file -> time of files that are copied, since they need another time (`later_times`).
    Raises InputError where the disk is full or a folder cannot be written.
    """
    done = Shared()
    for path in paths:
        new = target / path.relative_to(source)
        try:
            new.parent.mkdir(parents=True, exist_ok=True)
            if path.name.endswith(RECORD):
                new.write_text(_moved(path.read_text(), source.name, name))
                shutil.copystat(path, new)
                done.records += 1
                continue
            real = path.resolve()  # a link to an optimizer's state elsewhere becomes a file next to the policy
            size = real.stat().st_size
            if real not in later and _link(real, new):
                done.linked, done.linked_bytes = done.linked + 1, done.linked_bytes + size
            else:
                shutil.copy2(real, new)
                if real in later:
                    os.utime(new, ns=(later[real], later[real]))
                done.copied, done.copied_bytes = done.copied + 1, done.copied_bytes + size
        except OSError as error:
            raise disk_fault(error, new) or InputError(f"{new}: cannot be made ({error}).") from error
    return done


def _link(path: Path, new: Path) -> bool:
    """Make a hard link; false where the file system has none, or does not allow one."""
    try:
        os.link(path, new)
    except OSError:
        return False
    return True


def _moved(text: str, old: str, new: str) -> str:
    """A stage's record with the paths of its files in the folder of the new run."""
    try:
        record = json.loads(text)
        for role in ("inputs", "outputs"):
            for key, path in record[role].items():
                record[role][key] = str(path).replace(f"results/{old}/", f"results/{new}/")
    except (ValueError, KeyError, AttributeError, TypeError):
        return text  # a record holds times and no content
    return json.dumps(record, indent=1)


def read_fork(results: Path) -> dict[str, Any]:
    """What `fork.json` records of the run that this one was forked from; {} for a run that is no fork."""
    path = results / FORK_FILE
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}). Delete it: it is for readers only.") from error
    return found if isinstance(found, dict) else {}


def fork_lines(found: Mapping[str, Any]) -> list[str]:
    """One line for each fork that a run comes from, the last one first; none for a run that is no fork."""
    lines = []
    while found:
        changes = ", ".join(f"{key}: {value}" for key, value in found.get("set", {}).items()) or "none"
        digest = str(found.get("digest", ""))[:16]
        lines.append(f"{found.get('name')} at iteration {found.get('at')} (policies {digest}); changes: {changes}")
        found = found.get("parent") or {}
    return lines
