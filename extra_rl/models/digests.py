"""Compare the files of a policy with the SHA-256 digests in its manifest.json, once per file.

A file counts as checked while device, inode, size, mtime and ctime are unchanged: size and mtime can be restored after
a change, ctime cannot. Checked files are recorded in a hidden file next to the manifest, which no digest includes.
Where it cannot be written, every reader checks again.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from extra_rl.errors import InputError
from extra_rl.models.removed import how_to_rebuild, read_removed
from extra_rl.tables.files import file_digest

MANIFEST = "manifest.json"
CHECKED_FILE = ".checked.json"
STATE_FILES = ("optimizer.safetensors", "adapter.safetensors")
"""State of the optimizer and of LoRA adapters for the next update. These files are stored next to the policy, are not
part of its digest, and no sampler reads them."""

YOUNG_NS = 50_000_000
"""Nanoseconds. A file that was changed less than this before it was read could change again within one tick of its time
stamps. It is not recorded and will be checked again."""

Identity = list[int]


def listed_files(directory: Path) -> dict[str, str]:
    """File names and their SHA-256 in the manifest of a policy; {} without a manifest, or with that of another tool.

    Raises InputError for a manifest that cannot be read, or that has no list of files to check.
    """
    path = directory / MANIFEST
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}). {how_to_rebuild(directory)}") from error
    if not isinstance(found, dict) or "digest" not in found:
        return {}
    files = found.get("files")
    if not isinstance(files, dict) or not files or not all(isinstance(digest, str) for digest in files.values()):
        raise InputError(f"{path}: does not list the policy's files with their digests. {how_to_rebuild(directory)}")
    return files


def with_files(directory: Path) -> Path:
    """The directory of a policy's files: `directory`, or the one that `same_as` in its manifest refers to."""
    try:
        found = json.loads((directory / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return directory
    if not isinstance(found, dict) or not isinstance(found.get("same_as"), str):
        return directory
    return Path(os.path.normpath(directory / found["same_as"]))


def is_weights(name: str) -> bool:
    """Whether a file contains tensors, which a reader of the tokenizer does not need."""
    return name.endswith((".safetensors", ".bin", ".gguf"))


def require_listed(directory: Path, required: Callable[[str], bool]) -> None:
    """Check the files in the manifest of `directory` for whose names `required` is true; nothing without a manifest.

    The state files of the next update are checked by their reader (`require_file`).
    Raises InputError for a file that differs from its digest, for a missing file unless retention removed it, and for
    safetensors that the manifest does not list.
    """
    files = listed_files(directory)
    if not files:
        return
    _check(directory, {name: d for name, d in files.items() if name not in STATE_FILES and required(name)})
    for path in directory.glob("*.safetensors"):
        if path.name not in files and path.name not in STATE_FILES and required(path.name):
            raise InputError(
                f"{path} is not listed in {directory / MANIFEST}, but would be read as weights. Move it away."
            )


def require_file(directory: Path, name: str) -> bool:
    """Check one file as `require_listed` does; returns whether the manifest lists it."""
    files = listed_files(directory)
    if name in files:
        _check(directory, {name: files[name]})
    return name in files


def require_unchanged(directory: Path) -> None:
    """Check every file in the manifest, including state files, unless it is unchanged since its last check.

    Raises the errors of `require_listed`.
    """
    _check(directory, listed_files(directory))


def digests_of(directory: Path, names: list[str]) -> dict[str, str]:
    """The digest of each file for a new manifest; the files are recorded as checked."""
    checked: dict[str, Any] = {}
    digests = {name: _digest(directory / name, checked) for name in names}
    _remember(directory, checked, {})
    return digests


def _check(directory: Path, files: Mapping[str, str]) -> None:
    """Compare files with their digests, except those that are recorded as checked with the same digest."""
    known = _recall(directory)
    checked: dict[str, Any] = {}
    for name, expected in files.items():
        path = directory / name
        try:
            identity = _identity(path)
            entry = known.get(_key(name, identity))
            if entry == [identity, expected]:
                continue
            found = _digest(path, checked)
        except FileNotFoundError:
            if name in read_removed(directory):
                continue
            raise InputError(
                f"{path} is missing, although {directory / MANIFEST} lists it. {how_to_rebuild(directory)}"
            ) from None
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}). {how_to_rebuild(directory)}") from error
        if found != expected:
            raise InputError(
                f"{path} is not the file that {directory / MANIFEST} lists: its SHA-256 is {found[:16]}..., the listed "
                f"one {expected[:16]}... It was damaged or changed after it was written. {how_to_rebuild(directory)}"
            )
    if checked:
        _remember(directory, checked, known)


def _digest(path: Path, checked: dict[str, Any]) -> str:
    """The SHA-256 of a file; added to `checked` unless the file changed meanwhile or is younger than YOUNG_NS."""
    begun, before = time.time_ns(), _identity(path)
    digest = file_digest(path)
    if _identity(path) == before and before[-1] < begun - YOUNG_NS:
        checked[_key(path.name, before)] = [before, digest]
    return digest


def _identity(path: Path) -> Identity:
    """Device, inode, size in bytes, mtime and ctime in nanoseconds; links are followed."""
    found = path.stat()
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _key(name: str, identity: Identity) -> str:
    """The key of a record: name and device, because hosts that share a file system number its device differently."""
    return f"{name}@{identity[0]}"


def _recall(directory: Path) -> dict[str, Any]:
    """The records of checked files; {} where there are none or they are damaged."""
    try:
        found = json.loads((directory / CHECKED_FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _remember(directory: Path, checked: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Write the records of known and of newly checked files, atomically."""
    text = json.dumps({**known, **checked}, separators=(",", ":"), sort_keys=True)
    temporary = directory / f"{CHECKED_FILE}.{secrets.token_hex(6)}.tmp"
    with suppress(OSError):  # a read-only or full directory: the next reader checks again
        try:
            temporary.write_text(text)
            os.replace(temporary, directory / CHECKED_FILE)
        finally:
            temporary.unlink(missing_ok=True)
