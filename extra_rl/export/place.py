"""The policy that a user names for an export: its own folder, or the folder of a run with arm, seed and iteration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extra_rl.errors import InputError
from extra_rl.models.digests import MANIFEST
from extra_rl.models.policy import read_manifest, resolve
from extra_rl.results import IterationFolder, RunFolder, is_start_folder, named_file, results_folder_of


@dataclass(frozen=True)
class Exported:
    """A policy to export.

    manifest: of the policy that was named. directory: of its files, where the manifest refers to another policy.
    content: of `manifest`. results: `results/<name>` that it lies in; None for a policy that lies elsewhere.
    """

    manifest: Path
    directory: Path
    content: dict[str, Any]
    results: Path | None

    @property
    def name(self) -> str:
        """Its name in the run, `extra/s0/i12/policy`."""
        return str(self.content.get("name", self.manifest.parent))

    @property
    def job(self) -> dict[str, Any]:
        """The job that wrote it: stage, seed, arm, iteration and section."""
        return dict(self.content.get("job", {}))

    def input(self, role: str) -> Path | None:
        """Where the run's file lies that the policy was made from; None where it is not known or does not exist."""
        name = self.content.get("inputs", {}).get(role, {}).get("name", "")
        found = named_file(self.results, name) if self.results else None
        return found if found is not None and found.is_file() else None


def find(policy: Path, arm: str | None = None, seed: int | None = None, iteration: int | None = None) -> Exported:
    """Return the policy that the words name.

    Args:
        policy: a manifest, a folder with one, a folder of an iteration or a warm start, or `results/<name>`.
        arm, seed: of a run in `results/<name>`; each may be left out where there is one only.
        iteration: None for the last one with a policy.
    Raises InputError where there is no such policy, or where several arms or seeds could be meant.
    """
    chosen = (arm, seed, iteration) != (None, None, None)
    own = next((p for p in (policy, policy / MANIFEST, policy / "policy" / MANIFEST) if p.is_file()), None)
    if own is not None and own.name == MANIFEST:
        if chosen:
            raise InputError(f"{policy} is one policy: --arm, --seed and --iteration choose one of a run's folder.")
        return _exported(own)
    runs = [run for run in RunFolder.below(policy) if _manifests(run)]
    if not runs:
        raise InputError(
            f"{policy}: no policy there. Name a folder with a {MANIFEST} (results/NAME/ARM/s0/iteration_0011/policy), "
            "or results/NAME with --arm and --seed."
        )
    runs = [run for run in runs if arm in (None, run.arm) and seed in (None, run.seed)]
    if len(runs) != 1:
        known = ", ".join(f"--arm {run.arm} --seed {run.seed}" for run in RunFolder.below(policy) if _manifests(run))
        what = "several policies could be meant" if runs else "there is no such arm or seed"
        raise InputError(f"{policy}: {what}. Choose one of: {known}.")
    found = _manifests(runs[0])
    number = max(found) if iteration is None else iteration
    if number not in found:
        raise InputError(
            f"{runs[0].path}: no policy of iteration {number}; it has those of iterations {min(found)} to {max(found)}."
        )
    return _exported(found[number])


def _manifests(run: RunFolder) -> dict[int, Path]:
    """Iteration -> manifest of the policy that it wrote."""
    folders = (IterationFolder.at(path) for path in run.path.glob("iteration_*"))
    paths = {folder.number: folder.path / "policy" / MANIFEST for folder in folders if folder}
    return {number: path for number, path in paths.items() if path.is_file()}


def _exported(manifest: Path) -> Exported:
    results = results_folder_of(manifest)
    if results is None and manifest.parent.name == "policy" and is_start_folder(manifest.parent.parent.name):
        results = manifest.absolute().parents[2]
    return Exported(manifest, resolve(manifest), read_manifest(manifest), results)
