"""Temporary folders that a library made for this process: claimed by a lock, removed by the next run once it is dead.

Snakemake removes its temporary folders when it ends, but not when it is killed. A claimed folder holds a file whose
lock (`flock`) the kernel frees when this process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path

CLAIM = ".extra-claim"
"""File in a claimed folder, locked while the process that claimed it lives."""

_HELD: list[int] = []
"""Descriptors of locked files: open, and so held, until the process ends; no child inherits them."""


def claim(folder: Path, pattern: str) -> list[Path]:
    """Claim a folder for this process, and remove those next to it that dead processes had claimed; return them.

    pattern: names of the folders of this kind. Other folders, those of other users, and those that nobody has claimed
    are left alone. Where files cannot be locked, nothing is claimed or removed.
    """
    removed = []
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
