"""Files of a policy that retention has removed: the record next to them, and the error for a stage that needs them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from extra_rl.errors import InputError
from extra_rl.results import IterationFolder, is_start_folder, iteration_span
from extra_rl.tables.files import write_whole

REMOVED_FILE = "removed.json"
FORGOTTEN_FILE = ".optimizer_forgotten"
"""An empty file of that name next to a policy, made by hand, lets `update` continue without a lost optimizer state."""

NO_RECORD = "Delete it: a file of the policy that is missing is then named by its reader."


def write_removed(directory: Path, reasons: Mapping[str, str]) -> None:
    """Add file -> the setting that removes it to the record of a policy's directory."""
    text = json.dumps(read_removed(directory) | dict(reasons), indent=1, sort_keys=True) + "\n"
    write_whole(directory / REMOVED_FILE, lambda tmp: tmp.write_text(text))


def read_removed(directory: Path) -> dict[str, str]:
    """Read the record: file -> setting; {} where nothing was removed. InputError where it cannot be read."""
    path = directory / REMOVED_FILE
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}). {NO_RECORD}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: is not a record of removed files. {NO_RECORD}")
    return found


def refuse_removed(directory: Path, *, weights: bool = True, optimizer: bool = False) -> None:
    """Raise InputError, with the commands that restore them, where retention has removed required files.

    weights, optimizer: whether these files are required.
    """
    for name, setting in read_removed(directory).items():
        required = optimizer if name.startswith("optimizer.") else weights
        if required and not (directory / name).exists():
            raise InputError(f"{directory / name} was removed ({setting}). {how_to_rebuild(directory)}")


def name_elsewhere(path: Path) -> str:
    """Name of a policy's file in a folder that several policies share: its place, and a digest of its path."""
    absolute = path.absolute()
    digest = hashlib.sha256(str(absolute).encode()).hexdigest()[:12]
    return "-".join([*absolute.parts[-5:-2], digest, path.name])


def remove_file(path: Path) -> None:
    """Remove a file of a policy; it may be missing.

    A link's target (`retention.optimizer_folder`) is removed first, if this directory created the link: a copy of a
    policy does not own the target of the original.
    """
    if path.is_symlink() and path.readlink().name == name_elsewhere(path):
        path.readlink().unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def rebuild_commands(directory: Path, run: str) -> list[str]:
    """Return the commands that make a policy again whose manifest is out of the way; none outside a run's layout.

    run: the command of Snakemake with the configuration of the run. As in `how_to_rebuild`, nothing is sampled.
    """
    folder, place = directory.parent, IterationFolder.at(directory.parent)
    if is_start_folder(folder.name):
        return [f"{run} --allowed-rules warm_start -- {directory}/manifest.json"]
    if place is None:
        return []
    first = _first_to_rebuild(place)
    between = [f"{folder.parent}/{iteration_span(first, place.number - 1)}"] if first < place.number else []
    return [
        *(f"rm -f {span}/policy/manifest.json" for span in between),
        f"{run} --allowed-rules update --config first_iteration={first} -- {directory}/manifest.json",
    ]


def _first_to_rebuild(place: IterationFolder) -> int:
    """The iteration after the last one before this whose policy is complete."""
    return next((i + 1 for i in range(place.number - 1, -1, -1) if _is_whole(place.sibling(i))), 0)


def how_to_rebuild(directory: Path) -> str:
    """Return the commands that restore a removed policy: only the updates, from the last policy that is complete.

    Rollouts and verdicts are on disk, so nothing is sampled. The bytes are the same, so nothing after it runs again.
    """
    folder = directory.parent
    if is_start_folder(folder.name):
        return (
            f"To make it again: `rm {directory}/manifest.json`, then `snakemake --cores 2 --allowed-rules warm_start "
            f"-- {directory}/manifest.json` with the --configfile of the run."
        )
    place = IterationFolder.at(folder)
    if place is None:
        return (
            "Take it from the run that it was copied from, or make it again there. Where it was changed on purpose, "
            f"delete {directory}/manifest.json: without it this is an ordinary model directory."
        )
    last, first = place.number, _first_to_rebuild(place)
    span = iteration_span(first, last)
    return (
        f"To make it again by the updates of iterations {first} to {last}, without sampling: "
        f"`rm {folder.parent}/{span}/policy/manifest.json`, then `snakemake --cores 2 --allowed-rules update "
        f"--config first_iteration={first} -- {directory}/manifest.json` with the --configfile of the run."
    )


def _is_whole(folder: Path) -> bool:
    """Whether an iteration has all files of its policy; a policy that refers to a previous one has none."""
    try:
        files = json.loads((folder / "policy" / "manifest.json").read_text()).get("files", {})
    except (OSError, ValueError, AttributeError):
        return False
    return bool(files) and all((folder / "policy" / name).is_file() for name in files)
