"""Examines the results of a run by content: what is damaged, missing, in a wrong place, or older than its neighbours.

Nothing outside the folder is needed, neither a configuration nor Snakemake's records: tables and policies carry their
digests, names and origins. Every table is read once, and every weight file whose status changed since it was last
compared with its manifest. What retention has removed (`removed.json`) is not missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from extra_rl.errors import InputError
from extra_rl.models.digests import MANIFEST, listed_files, require_file, with_files
from extra_rl.models.policy import read_manifest
from extra_rl.models.removed import read_removed
from extra_rl.results import file_name, named_file
from extra_rl.run.identity import Identity, differences, first_sentence, has_identity, identity_of
from extra_rl.run.records import damage_of, relocate
from extra_rl.tables.checksum import require_undamaged
from extra_rl.tables.files import temporary_files

SUMMARY, PAGE = "summary.json", "report.html"

Kind = Literal["damaged", "missing", "foreign", "stale", "mixed", "leftover"]

KINDS: Mapping[Kind, str] = {
    "damaged": "its bytes are not those that were written",
    "missing": "another file was made from it, or with it",
    "foreign": "another arm, seed or iteration, or no stage, made it",
    "stale": "made from another version of a file than lies there now",
    "mixed": "one stage of one arm ran with different settings",
    "leftover": "a temporary file of a process that was killed, or a damaged record of times",
}
"""What each kind of finding means."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. path: the file to be made again; a policy stands as its manifest.

    files: what is moved aside to have it made again; none of a file that is missing, or of different settings.
    """

    kind: Kind
    path: Path
    what: str
    files: tuple[Path, ...] = ()


@dataclass
class Examination:
    """All findings, one a file, and what was looked at.

    tables, policies: how many. without_digest: tables that were written before tables had one, which only their
    contract can tell to be damaged. made_from: file -> files that it was made from. stages: output -> stage that makes
    it, by the run records.
    """

    findings: list[Finding] = field(default_factory=list)
    tables: int = 0
    policies: int = 0
    without_digest: int = 0
    made_from: dict[Path, set[Path]] = field(default_factory=dict)
    stages: dict[Path, str] = field(default_factory=dict)

    def dependents(self, path: Path) -> list[Path]:
        """The files that were made from `path`, those first that were made from it directly."""
        readers: dict[Path, list[Path]] = {}
        for file, sources in sorted(self.made_from.items()):
            for source in sources:
                readers.setdefault(source, []).append(file)
        queue, known = [path], {path}
        for file in queue:  # it grows: breadth first
            new = [reader for reader in readers.get(file, ()) if reader not in known]
            known.update(new)
            queue += new
        return queue[1:]

    def of_kind(self, *kinds: Kind) -> list[Finding]:
        return [finding for finding in self.findings if finding.kind in kinds]


def examine(results: Path) -> Examination:
    """Examine a folder `results/<name>`, or any folder of tables such as a cache of evaluations.

    Raises InputError where the folder does not exist or holds neither a table nor a policy.
    """
    files = sorted(path for path in results.rglob("*") if has_identity(path) and not path.name.startswith("."))
    if not files:
        raise InputError(f"{results}: no table and no policy below it. Name the folder of a run (results/<name>).")
    found = Examination()
    faults: dict[Path, Finding] = {}
    identities: dict[Path, Identity] = {}
    for path in files:
        fault = _fault_of_policy(path) if path.name == MANIFEST else _fault_of_table(path)
        found.policies += path.name == MANIFEST
        found.tables += path.name != MANIFEST
        if fault is None or fault.kind != "damaged" or path.name == MANIFEST:
            try:
                identities[path] = identity_of(path)
            except InputError:
                assert fault is not None
        if fault is not None:
            faults.setdefault(fault.path, fault)
    found.without_digest = sum(one.digest is None for one in identities.values())
    for path, one in identities.items():
        sources = {name: named_file(results, name) for name in one.inputs}
        found.made_from[path] = {source for source in sources.values() if source is not None}
        if path not in faults:
            fault = _foreign(one) or _stale(one, sources, identities, faults)
            if fault is not None:
                faults[path] = fault
    found.stages = {path: str(one.job.get("stage", "")) for path, one in identities.items()} | dict(_recorded(results))
    for path in {*found.stages, *(path for sources in found.made_from.values() for path in sources)}:
        if not path.is_file():
            faults.setdefault(path, Finding("missing", path, KINDS["missing"]))
    for path in {path for path in found.stages if path.suffix == ".json"} - identities.keys() | {results / SUMMARY}:
        if path.is_file() and (damage := damage_of(path)):
            faults.setdefault(path, Finding("damaged", path, damage, (path,)))
    page = results / PAGE
    if page.is_file() and not page.read_bytes().rstrip().endswith(b"</html>"):
        faults[page] = Finding("damaged", page, "its end is missing", (page,))
        found.stages[page] = "report"
    found.findings = [
        *(faults[path] for path in sorted(faults)),
        *_mixed(identities),
        *(
            Finding("leftover", path, "a temporary file of a process that was killed", (path,))
            for path in temporary_files(results)
        ),
        *(
            Finding("leftover", path, f"{damage}; it holds times, and nothing is made from it", (path,))
            for path in sorted(results.rglob("*.run.json"))
            if (damage := damage_of(path))
        ),
    ]
    return found


def _fault_of_table(path: Path) -> Finding | None:
    try:
        require_undamaged(path)
        identity_of(path)
    except (InputError, OSError) as error:
        return Finding("damaged", path, first_sentence(error, path), (path,))
    return None


def _fault_of_policy(manifest: Path) -> Finding | None:
    """The first file of a policy that is damaged or missing, its manifest included; None for a whole one."""
    directory = manifest.parent
    try:
        read_manifest(manifest)
        read_removed(directory)
        own = with_files(directory) == directory
        files = listed_files(directory) if own else {}
    except InputError as error:
        return Finding("damaged", manifest, first_sentence(error, manifest), (manifest,))
    if not own:
        return _fault_of_pointer(manifest)
    for name in files:
        try:
            require_file(directory, name)
        except InputError as error:
            there = (directory / name).exists()
            aside = (manifest, directory / name) if there else (manifest,)
            return Finding("damaged" if there else "missing", manifest, first_sentence(error, manifest), aside)
    return None


def _fault_of_pointer(manifest: Path) -> Finding | None:
    """What is wrong with a manifest that stands for an earlier policy (`same_as`); that policy has its own finding."""
    target = with_files(manifest.parent) / MANIFEST
    try:
        same = read_manifest(target)["digest"] == read_manifest(manifest)["digest"]
    except InputError:
        return None if target.is_file() else Finding("missing", target, f"{manifest} stands for it")
    return None if same else Finding("stale", manifest, f"stands for {target.parent}, which has changed", (manifest,))


def _foreign(one: Identity) -> Finding | None:
    """Whether a file of a run's layout is another cell's, or nobody's."""
    expected = file_name(one.path)
    if expected is None or one.name == expected:
        return None
    what = f"{one.name} by its footer" if one.name else "no stage wrote it: it has no name in its footer"
    return Finding("foreign", one.path, what, (one.path,))


def _stale(
    one: Identity,
    sources: Mapping[str, Path | None],
    identities: Mapping[Path, Identity],
    faults: Mapping[Path, Finding],
) -> Finding | None:
    """Whether a file was made from another version of a file, or from a file of another cell."""
    for name, digest in one.inputs.items():
        source = sources[name]
        now = identities.get(source) if source is not None else None
        if now is None or now.digest in (None, digest) or now.name != name:
            continue  # not there, unknown, or the source itself is at fault
        return Finding("stale", one.path, f"made from another version of {name}", (one.path,))
    return None


def _recorded(results: Path) -> Iterator[tuple[Path, str]]:
    """Outputs that run records name, and their stage: a job writes several files, and none may be missing alone."""
    for record in sorted(results.rglob("*.run.json")):
        try:
            content = json.loads(record.read_text())
            stage, outputs = str(content["stage"]), list(content["outputs"].values())
            beside = str(Path(outputs[0]).with_name(record.name))
        except (OSError, ValueError, LookupError, AttributeError, TypeError):
            continue  # a record holds times and no content; without it the tables speak for themselves
        for output in outputs:
            path = relocate(record, beside, output).resolve()
            if path.is_relative_to(results.resolve()):
                yield results / path.relative_to(results.resolve()), stage


def _mixed(identities: Mapping[Path, Identity]) -> Iterator[Finding]:
    """Stages of an arm that ran with different settings or versions in different iterations or seeds.

    Settings that a schedule gives from an iteration on are compared among themselves.
    """
    first: dict[tuple[str, str, str], Identity] = {}
    seen: set[tuple[str, str, str, str]] = set()
    for one in identities.values():
        job = {key: value for key, value in one.job.items() if key in ("stage", "version", "config")}
        if not job:
            continue
        cell = (str(one.job.get("arm", "")), str(job["stage"]), str(one.job.get("since", 0)))
        reference = first.setdefault(cell, one)
        changed = differences({key: reference.job[key] for key in job if key in reference.job}, job)
        if changed and (*cell, str(changed)) not in seen:
            seen.add((*cell, str(changed)))
            yield Finding("mixed", one.path, f"{'; '.join(changed)} (before, in {reference.path})")
