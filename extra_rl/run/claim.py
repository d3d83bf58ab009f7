"""Temporary folders that a library made for this process: claimed by a lock, removed by the next run once it is dead.

Snakemake removes its temporary folders when it ends, but not when it is killed. A claimed folder holds a file whose
lock (`flock`) the kernel frees when this process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

CLAIM = ".extra-claim"
"""File in a claimed folder, locked while the process that claimed it lives."""

OLD_SECONDS = 24 * 3600.0

_HELD: list[int] = []
"""Descriptors of locked files: open, and so held, until the process ends; no child inherits them."""


def claim(folder: Path, pattern: str) -> list[Path]:
    """Claim a folder for this process, and remove those next to it that dead processes had claimed; return them.

    Folders that nobody has claimed, of processes that were killed too early, are removed once they are empty and
    OLD_SECONDS old; a process that still has one does not miss it. Other folders, and those of other users, are left
    alone. Where files cannot be locked, nothing is claimed.

    pattern: names of the folders of this kind.
    """
    removed = []
    for other in sorted(folder.parent.glob(pattern)):
        with suppress(OSError):  # it has gone, or is not empty
            status = other.lstat()
            if status.st_uid == os.getuid() and time.time() - status.st_mtime > OLD_SECONDS:
                other.rmdir()
                removed.append(other)
    with suppress(OSError):
        for file in sorted(folder.parent.glob(f"{pattern}/{CLAIM}")):
            if file.parent != folder and file.parent.lstat().st_uid == os.getuid() and _is_free(file):
                shutil.rmtree(file.parent, ignore_errors=True)
                removed.append(file.parent)
        new = folder / f"{CLAIM}.new"  # it has its name only once it is locked
        descriptor = os.open(new, os.O_RDWR | os.O_CREAT, 0o600)
        _HELD.append(descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.replace(new, folder / CLAIM)
    return removed


def _is_free(file: Path) -> bool:
    """Whether no process holds the lock of a file."""
    with file.open("rb") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
