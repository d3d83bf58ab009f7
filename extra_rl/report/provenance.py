"""Where the numbers come from: resolved sections, differences between arms, versions, digests, dates."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from extra_rl.config.schedule import KEY
from extra_rl.config.sections import SHARED
from extra_rl.models.policy import read_manifest
from extra_rl.report.sources import Sources
from extra_rl.run.configuration import CONFIGURATION_FILE, kept_configuration
from extra_rl.run.fork import fork_lines, read_fork
from extra_rl.run.records import read_record
from extra_rl.tables.files import canonical_json, read_provenance

STAGE_FILES = (
    *("select", "generate", "verify_generate", "score_entropy_generate", "choose_prefixes", "regenerate"),
    *("novelty", "advantage", "update", "summarize"),
)
COMMON_FILES = ("prepare/train.parquet", "warm_start*/warm_start.parquet", "compare.parquet")
DATED = ("prepare/*.run.json", "warm_start*/*.run.json", "*/s*/iteration_0000/*.run.json", "compare.run.json")


def footers(sources: Sources) -> dict[str, list[dict[str, Any]]]:
    """Return cell folder -> footers of its first seed's tables; "" -> footers of the tables that all arms share."""
    found: dict[str, list[dict[str, Any]]] = {"": []}
    for pattern in COMMON_FILES:
        found[""] += [read_provenance(path) for path in sorted(sources.results.glob(pattern))]
    for (folder, _), folders in sources.iterations.items():
        if folder in found:
            continue
        paths = [folders[0] / f"{name}.parquet" for name in STAGE_FILES] + [folders[-1] / "evaluate.parquet"]
        found[folder] = [read_provenance(path) for path in paths if path.is_file()]
    return found


def sections(found: Mapping[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Return cell folder ("" for shared stages) -> stage -> its resolved section."""
    return {
        folder: {f["job"]["stage"]: f["job"]["config"] for f in footers if "job" in f}
        for folder, footers in found.items()
    }


def differing(resolved: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the keys that differ between cells: key, and values as (text, cells), the first cell's value first.

    A shared section, of which every stage that reads it has a copy, is listed once, without the stage.
    """
    flat = {cell: flatten(stages) for cell, stages in resolved.items() if cell}
    keys = dict.fromkeys(key for values in flat.values() for key in values)
    rows = []
    for key in sorted(keys):
        values: dict[str, list[str]] = {}
        for cell, mine in flat.items():
            values.setdefault(mine.get(key, "(absent)"), []).append(cell)
        if len(values) > 1:
            rows.append({"key": key, "values": list(values.items())})
    return rows


def flatten(stages: Mapping[str, Any]) -> dict[str, str]:
    """Return `stage.key.inner` -> value as JSON; a list is one value, an empty mapping none."""
    flat: dict[str, str] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                walk(f"{prefix}.{key}", inner)
        else:
            flat[prefix] = json.dumps(value)

    for stage, section in stages.items():
        for key, value in section.items():
            walk(key if key in SHARED else f"{stage}.{key}", value)
    return flat


def config_digest(resolved: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the SHA-256 of the resolved sections of all arms, as canonical JSON."""
    return hashlib.sha256(canonical_json(resolved).encode()).hexdigest()


def facts(sources: Sources, found: Mapping[str, list[dict[str, Any]]]) -> list[tuple[str, str]]:
    """Return name and value of each fact that a reader needs to reproduce the numbers."""
    every = [footer for footers in found.values() for footer in footers]
    packages = {(name, version) for footer in every for name, version in footer.get("packages", {}).items()}
    stages = {(f["job"]["stage"], f["job"]["version"]) for f in every if "job" in f}
    started = dates(sources.results)
    named = [
        ("results", sources.results.name),
        ("configuration", f"SHA-256 {config_digest(sections(found))}"),
        ("forked from", "; ".join(fork_lines(read_fork(sources.results)))),
        ("schedule", schedule(sources.results)),
        ("arms", ", ".join(sources.arms)),
        ("regimes", ", ".join(f"{regime} ({value:g})" for regime, value in sources.values.items())),
        ("seeds", ", ".join(map(str, sources.seeds))),
        *((name.replace("_", " "), _digest(folder)) for name, folder in sources.warm_starts.items()),
        ("held-out problems", _problems(found)),
        ("code", "; ".join(codes(sources))),
        ("packages", ", ".join(f"{name} {version}" for name, version in sorted(packages))),
        ("stage versions", ", ".join(f"{name} {version}" for name, version in sorted(stages))),
        ("started", f"{started[0]} to {started[-1]}" if started else ""),
    ]
    return [(name, value) for name, value in named if value]


def dates(results: Path) -> list[str]:
    """Return the sorted start times (UTC, to the minute) of shared stages and of first iterations."""
    found = set()
    for pattern in DATED:
        for path in results.glob(pattern):
            found.add(str(read_record(path).get("started", ""))[:16].replace("T", " "))
    return sorted(found - {""})


def codes(sources: Sources) -> list[str]:
    """Return the versions of this package that made the run, from the records of `DATED` and of each last iteration."""
    paths = [path for pattern in DATED for path in sorted(sources.results.glob(pattern))]
    paths += [folders[-1] / "summarize.run.json" for folders in sources.iterations.values()]
    found = {str(read_record(path).get("code", "")) for path in paths if path.is_file()}
    return [f"extra-rl {code}" for code in sorted(found - {""})]


def _digest(folder: Path) -> str:
    manifest = folder / "policy" / "manifest.json"
    return f"policy {read_manifest(manifest)['digest']}" if manifest.is_file() else "policy not kept"


def schedule(results: Path) -> str:
    """The changes from an iteration on, as the run's configuration lists them; the sections above are those before."""
    if not (results / CONFIGURATION_FILE).is_file():
        return ""
    entries = kept_configuration(results).get(KEY) or []
    return "; ".join(canonical_json(entry) for entry in entries)


def _problems(found: Mapping[str, list[dict[str, Any]]]) -> str:
    splits = {
        (str(f["job"]["config"].get("split")), str(f["inputs"]["held_out"]["digest"]))
        for footers in found.values()
        for f in footers
        if f.get("job", {}).get("stage") == "evaluate" and "held_out" in f.get("inputs", {})
    }
    return ", ".join(f"split {split}, SHA-256 {digest}" for split, digest in sorted(splits))
