"""Retention: which iterations keep their weights and optimizer states on disk, and the removal of the others.

Only the large files are removed (`*.safetensors`). Manifest, config and tokenizer stay unchanged: Snakemake checks the
manifest, and other bytes would re-run everything after it. `removed.json` next to it lists the removed files.
Source: our decision (docs/decisions/0007-retention.md).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from extra_rl.config.run import LAST_POLICIES
from extra_rl.errors import InputError
from extra_rl.models.digests import require_unchanged
from extra_rl.models.policy import OPTIMIZER_FILE, read_manifest
from extra_rl.models.removed import remove_file, write_removed
from extra_rl.results import RunFolder
from extra_rl.tables.files import file_digest


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Retention:
    """The section `retention`, with the keys of the run that it depends on.

    It changes no byte of any table, so it is no part of a job: `update` gets it from the run's context
    (`extra_rl.run.context`). A stage that is run by hand elsewhere has none, and removes nothing.
    """

    weights_every: int
    optimizer_states: int
    evaluate_every: int
    first_iteration: int
    optimizer_folder: str | None = None


def kept_weights(iterations: int, weights_every: int, evaluate_every: int = 0) -> list[int]:
    """The iterations whose weights are on disk after `iterations` are done: every k-th, evaluated ones, the last two.

    Iteration i is the (i + 1)-th, for `weights_every` and for `evaluate_every` (0: only the last one is evaluated).
    """
    return [
        i
        for i in range(iterations)
        if i >= iterations - LAST_POLICIES
        or (i + 1) % weights_every == 0
        or (evaluate_every > 0 and (i + 1) % evaluate_every == 0)
    ]


def kept_optimizer_states(iterations: int, n: int) -> list[int]:
    """The iterations whose optimizer states are on disk after `iterations` are done: the last n; all of them for 0."""
    return list(range(max(0, iterations - n) if n else 0, iterations))


def thin(manifest: Path, iteration: int, retention: Retention) -> list[Path]:
    """Remove the files that need not stay after `iteration` has written its policy to `manifest`; return them.

    The next call completes an interrupted removal, because all older iterations are checked every time. Raises
    InputError, and removes nothing, where the files of the new policy do not match its manifest.
    """
    files = removable(manifest, iteration, retention)
    if files:
        require_safe(_directory(manifest), written_now=_directory(manifest) == manifest.parent)
    for directory, reasons in files.items():
        write_removed(directory, reasons)  # first, so that every missing file has a recorded reason
        for name in reasons:
            remove_file(directory / name)
    return [directory / name for directory, reasons in files.items() for name in reasons]


def removable(manifest: Path, iteration: int, retention: Retention) -> dict[Path, dict[str, str]]:
    """Directory -> file -> the setting that removes it, for the iterations up to `iteration` of one arm and seed.

    A policy that refers to a previous one (`same_as`) keeps the files of that one. Empty where `manifest` lies outside
    the layout of a run.
    """
    run = RunFolder(manifest.parent.parent.parent)
    manifests = {i: run.iteration(i) / "policy" / manifest.name for i in range(iteration + 1)}
    if manifests[iteration] != manifest:
        return {}
    directories = {i: _directory(path) for i, path in manifests.items() if path.is_file()}
    done = iteration + 1
    base = retention.first_iteration - 1  # its policy is the start of the window
    weights = {base, *kept_weights(done, retention.weights_every, retention.evaluate_every)}
    states = set(kept_optimizer_states(done, retention.optimizer_states))
    if retention.optimizer_states:
        states.add(base)
    kept_weights_in = _of(directories, weights)
    kept_states_in = _of(directories, states)
    found: dict[Path, dict[str, str]] = {}
    for i, directory in directories.items():
        if directory != manifests[i].parent:
            continue
        for name in read_manifest(manifests[i])["files"]:
            is_state = name == OPTIMIZER_FILE
            if not name.endswith(".safetensors") or directory in (kept_states_in if is_state else kept_weights_in):
                continue
            if (directory / name).is_file() or (directory / name).is_symlink():  # a link may point to nothing
                key = "optimizer_states" if is_state else "weights_every"
                found.setdefault(directory, {})[name] = f"retention.{key}: {getattr(retention, key)}"
    return found


def require_safe(directory: Path, *, written_now: bool = False) -> None:
    """Flush a policy's files to the disk and read them back; InputError where one does not match the manifest.

    written_now: the manifest was made from the files a moment ago, when all were read. Files that have not changed
    since (`models.digests`) are then not read again. An older policy, to which this one refers, is always read.
    """
    files = read_manifest(directory / "manifest.json")["files"]
    for name in files:
        with open(directory / name, "rb") as handle:
            os.fsync(handle.fileno())
    if written_now:
        require_unchanged(directory)
        return
    for name, digest in files.items():
        if file_digest(directory / name) != digest:
            raise InputError(
                f"{directory / name} does not match the manifest next to it, so no older policy is removed. "
                f"Is the disk damaged? Delete {directory / 'manifest.json'} and run again; snakemake rebuilds it."
            )


def _directory(manifest: Path) -> Path:
    """The directory of a policy's files. Unlike `policy.resolve`, it does not check that they are unchanged."""
    found: Mapping[str, Any] = read_manifest(manifest)
    return Path(os.path.normpath(manifest.parent / found.get("same_as", ".")))


def _of(directories: Mapping[int, Path], iterations: Iterable[int]) -> set[Path]:
    return {directories[i] for i in iterations if i in directories}
