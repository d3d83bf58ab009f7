"""Files of a policy that retention removes: the record beside them, and the error for a stage that needs them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

from extra_rl.errors import InputError
from extra_rl.results import IterationFolder, iteration_span
from extra_rl.tables.files import write_whole

REMOVED_FILE = "removed.json"
FORGOTTEN_FILE = ".optimizer_forgotten"
"""An empty file of that name beside a policy, made by hand, lets `update` go on without its lost optimizer state."""

NO_RECORD = "Delete it: a file of the policy that is missing is then named by its reader."


def write_removed(directory: Path, reasons: Mapping[str, str]) -> None:
    """Adds file -> the setting that removed it to the record of a policy's directory."""
    text = json.dumps(read_removed(directory) | dict(reasons), indent=1, sort_keys=True) + "\n"
    write_whole(directory / REMOVED_FILE, lambda tmp: tmp.write_text(text))


def read_removed(directory: Path) -> dict[str, str]:
    """The record; {} where nothing was removed. InputError where it cannot be read."""
    path = directory / REMOVED_FILE
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}). {NO_RECORD}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: is no record of removed files. {NO_RECORD}")
    return found


def refuse_removed(directory: Path, *, weights: bool = True, optimizer: bool = False) -> None:
    """InputError, with the commands that make them again, when weights or optimizer state were removed by retention."""
    for name, setting in read_removed(directory).items():
        wanted = optimizer if name.startswith("optimizer.") else weights
        if wanted and not (directory / name).exists():
            raise InputError(f"{directory / name} was removed ({setting}). {how_to_rebuild(directory)}")


def name_elsewhere(path: Path) -> str:
    """What a file of a policy is called in a folder for many: the place that wrote it, and a digest of that."""
    absolute = path.absolute()
    digest = hashlib.sha256(str(absolute).encode()).hexdigest()[:12]
    return "-".join([*absolute.parts[-5:-2], digest, path.name])


def remove_file(path: Path) -> None:
    """Removes a file of a policy that may be missing, and first what it points to, where it is a link that this very
    place has made (`retention.optimizer_folder`): a copy of a policy does not own what its original points to."""
    if path.is_symlink() and path.readlink().name == name_elsewhere(path):
        path.readlink().unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def how_to_rebuild(directory: Path) -> str:
    """The commands that make a removed policy again: the updates alone, from the last policy that is still whole.

    Rollouts and verdicts are on disk, so nothing is sampled; the bytes are the same, so nothing after it runs again.
    """
    folder = directory.parent
    if re.fullmatch(r"warm_start(_\d+)?", folder.name):
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
    last = place.number
    first = next((i + 1 for i in range(last - 1, -1, -1) if _is_whole(place.sibling(i))), 0)
    span = iteration_span(first, last)
    return (
        f"To make it again by the updates of iterations {first} to {last}, without sampling: "
        f"`rm {folder.parent}/{span}/policy/manifest.json`, then `snakemake --cores 2 --allowed-rules update "
        f"--config first_iteration={first} -- {directory}/manifest.json` with the --configfile of the run."
    )


def _is_whole(folder: Path) -> bool:
    """Whether an iteration's policy has all files of its own (one that stands for a former policy has none)."""
    try:
        files = json.loads((folder / "policy" / "manifest.json").read_text()).get("files", {})
    except (OSError, ValueError, AttributeError):
        return False
    return bool(files) and all((folder / "policy" / name).is_file() for name in files)
