"""Are the files that a run keeps those of its configuration? Compared by footers, before the first job.

Snakemake re-runs what its own records (`.snakemake/`) say has changed. Results that were copied without these records
hold every job in the footers, so nothing has to be trusted: a file that stays must have been made by the job that the
configuration gives today, lie where its name says, and come from the files that are next to it. A finished
file that Snakemake makes again because its settings have changed is named before it is replaced.
Source: our decision (docs/decisions/0020-files-are-known-by-content.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from extra_rl.errors import InputError
from extra_rl.results import IterationFolder, file_name, named_file
from extra_rl.run.identity import Identity, differences, first_sentence, identity_of

START = re.compile(r"s\d+/policy")
"""Name of an initial policy: which one a seed starts from is no part of its job (`warm_starts`)."""
REASONS_SHOWN, KEYS_SHOWN, FILES_SHOWN = 5, 3, 6
"""How much of a long list a message shows."""


@dataclass(frozen=True)
class Kept:
    """A file that the run takes as it is.

    jobs: of today, by stage. after: the files that its job reads. first_output: of its job, which makes all at once.
    starts: names of the initial policies among the files that its job reads today (`s7/policy`).
    """

    path: Path
    jobs: Mapping[str, Mapping[str, Any]]
    after: tuple[Path, ...] = ()
    first_output: Path | None = None
    starts: frozenset[str] = frozenset()


@dataclass
class Findings:
    """What is wrong with the files of a run.

    reasons: what is wrong -> files, in the order in which data flows. first: those from which the rest follows, one
    a job, as the keys of a mapping that keeps their order.
    """

    reasons: dict[str, list[Path]] = field(default_factory=dict)
    first: dict[Path, None] = field(default_factory=dict)

    def add(self, reason: str, path: Path) -> None:
        self.reasons.setdefault(reason, []).append(path)


def compare(results: Path, kept: Iterable[Kept]) -> Findings:
    """Compare the footers of files with the jobs of today and with one another.

    Args:
        results: `results/<name>`.
        kept: in the order in which data flows.
    """
    known = cache(identity_of)
    findings, affected = Findings(), set[Path]()
    for one in kept:
        reason = _reason(results, one, known)
        if reason:
            findings.add(reason, one.path)
            if affected.isdisjoint(one.after):
                findings.first[one.first_output or one.path] = None
        if reason or not affected.isdisjoint(one.after):
            affected.add(one.path)
    return findings


def _reason(results: Path, kept: Kept, known: Callable[[Path], Identity]) -> str:
    """What is wrong with one file; empty where nothing is."""
    try:
        found = known(kept.path)
    except InputError as error:
        return first_sentence(error, kept.path)
    if not found.job:
        return "no stage wrote it: its footer names no job"
    expected_name = file_name(kept.path)
    if expected_name not in (None, found.name):
        return f"{found.name} by its footer, which belongs elsewhere"
    expected = kept.jobs.get(str(found.job.get("stage")))
    if expected is None:
        return f"made by the stage {found.job.get('stage')} instead of {' or '.join(kept.jobs)}"
    changed = differences(found.job, expected)
    if changed:
        more = len(changed) - KEYS_SHOWN
        return "; ".join(changed[:KEYS_SHOWN]) + (f" and {more} more keys" if more > 0 else "")
    others = sorted(name for name in found.inputs if START.fullmatch(name) and name not in kept.starts)
    if kept.starts and others:
        return f"made from the initial policy {', '.join(others)}, now {', '.join(sorted(kept.starts))}"
    return stale(results, found, known)


def stale(results: Path, found: Identity, known: Callable[[Path], Identity]) -> str:
    """Say which input of a file is now another than the one that it was made from; empty where none is."""
    for name, digest in found.inputs.items():
        path = named_file(results, name)
        if path is None or not path.is_file():
            continue  # a file of problems, or an intermediate file that is gone
        try:
            now = known(path)
        except InputError:
            continue  # named itself, where it is kept
        if now.digest not in (None, digest) and now.name == name:  # a file in a wrong place is named itself, too
            return f"made from another version of {name} than lies there now"
    return ""


def remade_note(results: Path, remade: Iterable[Kept]) -> str:
    """Say which finished files are made again because their settings have changed; empty where none are.

    Args:
        results: `results/<name>`.
        remade: files that are there and will be made again, in the order in which data flows.
    """
    reasons: dict[str, list[Path]] = {}
    for one in remade:
        if one.path.parent == results:
            continue  # the comparison is made again whenever a run grows
        try:
            made = identity_of(one.path).job
        except InputError:
            continue  # damaged: it is made again for that reason
        expected = one.jobs.get(str(made.get("stage")))
        if expected and (changed := differences(made, expected)):
            more = f" and {len(changed) - KEYS_SHOWN} more keys" if len(changed) > KEYS_SHOWN else ""
            reasons.setdefault("; ".join(changed[:KEYS_SHOWN]) + more, []).append(one.path)
    if not reasons:
        return ""
    count = sum(map(len, reasons.values()))
    lines = [f"NOTE: {count} finished file(s) have other settings now and are made again, with all that follows:"]
    for reason, paths in list(reasons.items())[:REASONS_SHOWN]:
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        lines.append(f"  {paths[0]}{more}: {reason}")
    numbers = [place.number for paths in reasons.values() for path in paths for place in _iteration_of(path)]
    at = f"--at {min(numbers)} " if len(numbers) == count and min(numbers) > 0 else ""
    lines.append(
        f"To keep them, stop now and continue under another name: `extra fork {results} {at or '--at N '}--name NEW` "
        "(docs/course.md)."
    )
    return "\n".join(lines)


def _iteration_of(path: Path) -> list[IterationFolder]:
    """The iteration that a file belongs to; none for a file outside of iterations."""
    return [place for folder in path.parents if (place := IterationFolder.at(folder)) is not None][:1]


def message(results: Path, findings: Findings, command: str) -> str:
    """The error: which files, how they differ, and the two ways out.

    command: how this run is started, up to the files to be made again.
    """
    count = sum(map(len, findings.reasons.values()))
    lines = [
        f"{results} holds {count} file(s) that today's configuration would not make, and Snakemake has no record that "
        "tells it to make them again, so the run would mix two experiments:"
    ]
    for reason, paths in list(findings.reasons.items())[:REASONS_SHOWN]:
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        lines.append(f"  {paths[0]}{more}: {reason}")
    hidden = len(findings.reasons) - REASONS_SHOWN
    lines += [f"  ({hidden} more kinds of difference)"] if hidden > 0 else []
    first = [str(path) for path in findings.first]
    shown = " ".join(first[:FILES_SHOWN])
    rest = f" (and {len(first) - FILES_SHOWN} more: `extra check {results}`)" if len(first) > FILES_SHOWN else ""
    lines += [
        "Either put the old values back (or give this run another `name`; `extra fork` shares the files before the "
        "change), or make these files and all that follows from them again:",
        f"  {command} --forcerun {shown}{rest}",
    ]
    return "\n".join(lines)
