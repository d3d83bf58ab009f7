"""Known problem sets by name, which complete the names and partial sources of a configuration.

The sets themselves are data: `benchmarks.yaml`. This module handles plain mappings; `extra_rl.config.sections`
validates them.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

PAPER_BENCHMARKS = ("aime24", "aime25", "amc23", "math500", "minerva", "olympiadbench")
"""The six of the paper (docs/method.md 4)."""

SUFFIXES = (".parquet", ".jsonl", ".jsonl.gz", ".json", ".csv", ".tsv")
"""Files that `task.folder` is searched for, in this order."""

ANONYMOUS = "train"
"""Name of a training source that has none in the configuration."""

Kind = Literal["benchmarks", "training"]


@cache
def registry(kind: Kind) -> dict[str, dict[str, Any]]:
    """Name -> entry of `benchmarks.yaml`."""
    text = importlib.resources.files("extra_rl.config").joinpath("benchmarks.yaml").read_text()
    found: dict[str, dict[str, Any]] = yaml.safe_load(text)[kind]
    return found


def complete(kind: Kind, given: object, folder: str | None, source_keys: frozenset[str]) -> object:
    """Return sources by name.

    Complete sources are returned unchanged, because the sections of a run are validated again in every stage.

    Args:
        given: a name, a list of names, a mapping name -> (partial) source, or one source. Other forms are returned
            unchanged, and the validation that follows refuses them.
        folder: directory that is searched for local files before the hub; None: no directory.
        source_keys: the keys of a source.

    Raises ValueError for an unknown name without `path` or `dataset`, a name given twice, an unknown key, and a folder
    that does not exist.
    """
    if isinstance(given, str):
        given = [given]
    if isinstance(given, list) and all(isinstance(name, str) for name in given):
        twice = sorted({name for name in given if given.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)}: named twice")
        given = {name: {} for name in given}
    if not isinstance(given, Mapping):
        return given
    if kind == "training" and set(given) & source_keys and not set(given) & set(registry(kind)):
        if unknown := sorted(set(given) - source_keys):
            raise ValueError(f"unknown key {', '.join(unknown)} (a source has {', '.join(sorted(source_keys))})")
        given = {ANONYMOUS: given}
    return {name: _completed(kind, str(name), partial, folder) for name, partial in given.items()}


def _completed(kind: Kind, name: str, partial: object, folder: str | None) -> object:
    """Complete one source with the known values of its name; values of the configuration take precedence."""
    if partial is None:
        partial = {}
    if not isinstance(partial, Mapping):
        return partial
    own = dict(partial)
    entry = registry(kind).get(name)
    named = own.get("path") is not None or own.get("dataset") is not None
    if entry is None:
        if not named:
            raise ValueError(
                f"{name}: not a known name ({', '.join(registry(kind))}); give your own set a `path` or a `dataset`"
            )
        return own
    if not named and folder is not None:
        found = find_file(Path(folder), entry["files"])
        own |= {"path": str(found)} if found else {}
    known: dict[str, Any] = dict(entry.get("common", {}))
    if own.get("path") is not None:
        known |= entry.get("local", {}) | ({"rows": entry["rows"]} if kind == "benchmarks" else {})
    elif own.get("dataset") in (None, entry["hub"]["dataset"]):
        known |= entry["hub"] | {"rows": entry["rows"]}
        own.pop("dataset", None)
    elif kind == "benchmarks":  # the same benchmark from elsewhere on the hub
        known |= {"rows": entry["rows"]}
    return known | own


def find_file(folder: Path, stems: list[str]) -> Path | None:
    """Find the first file with one of these stems in the folder or one level below. ValueError without the folder."""
    if not folder.is_dir():
        raise ValueError(f"task.folder: {folder} is not a directory")
    places = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
    candidates = (place / f"{stem}{suffix}" for stem in stems for place in places for suffix in SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)
