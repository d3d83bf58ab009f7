"""Exclusive locks on named things, such as devices: the first free ones are taken, until the process ends.

A lock is `flock` on one file a name, as in run/lock.py: the kernel releases it when the process ends, at kill -9 too.
A file that something removes (a cleaner of temporary files) stays open in its holder, so whoever locks the file that
took its place looks for that holder first. All runs of a user share the locks of a machine. Source: our decision
(docs/decisions/0009-shards.md).
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from extra_rl.errors import ConfigError, InputError

POLL_SECONDS = 0.2

_HELD: dict[Path, int] = {}
"""Lock file -> its descriptor, open, and so held, until the process ends or releases it."""


def take_free(names: Sequence[str], count: int, folder: Path, wait: bool = True) -> list[str] | None:
    """Take `count` of the named things, the first free ones in the order given; all of them or none.

    They are held until this process ends, however it ends, or calls `release`; no child inherits them. Nothing is held
    while it waits, so that two processes that each need several cannot block each other.

    Args:
        folder: where the lock files lie, made with mode 0700.
        wait: poll until enough are free; otherwise return None where too few are.

    Raises ConfigError when `count` exceeds the names, InputError when the folder belongs to someone else.
    """
    if count > len(names):
        raise ConfigError(f"{count} are required, but there are {len(names)}: {', '.join(names)}.")
    _require_own_folder(folder)
    while True:
        taken: list[str] = []
        for name in names:
            if len(taken) < count and _lock(_file(folder, name)):
                taken.append(name)
        if len(taken) == count:
            return taken
        release(taken, folder)
        if not wait:
            return None
        time.sleep(POLL_SECONDS)


def release(names: Iterable[str], folder: Path) -> None:
    """Release things before the process ends; those that it does not hold are left alone."""
    for name in names:
        descriptor = _HELD.pop(_file(folder, name), None)
        if descriptor is not None:
            os.close(descriptor)


def _file(folder: Path, name: str) -> Path:
    return folder / f"{quote(name, safe='')}.lock"


def _lock(path: Path) -> bool:
    """Lock the file, made if absent; False where another process holds it, under this name or as a removed file."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    if not _is_named(descriptor, path) or _is_held_as_removed_file(path):
        os.close(descriptor)
        return False
    _HELD[path] = descriptor
    return True


def _is_named(descriptor: int, path: Path) -> bool:
    """Whether the open file still has this name: it may have been removed between its opening and its locking."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _is_held_as_removed_file(path: Path) -> bool:
    """Whether a process of this user has a removed file of this name open, and so holds the lock of that name."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):  # the process has ended, or belongs to another user
            if os.readlink(link) == f"{path.resolve()} (deleted)":
                return True
    return False


def _require_own_folder(folder: Path) -> None:
    """Make the folder, or raise InputError where another user may enter it: a lock file there could be replaced."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700, parents=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise InputError(
            f"{folder}: it holds the locks of devices, so it must be a folder of yours that nobody else may enter. "
            "Remove it, or chmod 700 it."
        )


def _close_in_child() -> None:
    """Close a forked child's copies: otherwise a device would stay taken until the last child has ended. The child may
    still use what its parent has taken."""
    for descriptor in _HELD.values():
        os.close(descriptor)
    _HELD.clear()


os.register_at_fork(after_in_child=_close_in_child)
