"""Temporary folders that a library made for this process: claimed by a lock, removed by the next run once it is dead.

Snakemake removes its temporary folders when it ends, but not when it is killed. A claimed folder holds a file whose
lock (`flock`) the kernel frees when this process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from extra_rl.run.lock import mount_of

CLAIM = ".extra-claim"
"""File in a claimed folder, locked while the process that claimed it lives."""

OLD_SECONDS = 24 * 3600.0

SLACK_SECONDS = 10.0
"""By how much the times of processes and of files may differ: the former are counted from the start of the system."""
OF_ONE_MACHINE = ("btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs", "zfs")
"""Kinds of file systems that no other machine writes."""

_HELD: list[int] = []
"""Descriptors of locked files: open, and so held, until the process ends; no child inherits them."""


def claim(folder: Path, pattern: str) -> list[Path]:
    """Claim a folder for this process, and remove those next to it that dead processes had claimed; return them.

    Folders that nobody has claimed, of processes that were killed too early, are removed if no living process can have
    made them, else once they are empty and OLD_SECONDS old; a process that still has one does not miss it. Other
    folders, and those of other users, are left alone. Where files cannot be locked, nothing is claimed.

    pattern: names of the folders of this kind.
    """
    removed = []
    for other in sorted(folder.parent.glob(pattern)):
        with suppress(OSError):  # it has gone, or is not empty
            status = other.lstat()
            if other == folder or status.st_uid != os.getuid() or (other / CLAIM).exists():
                continue
            if not may_be_in_use(other, status.st_mtime):
                shutil.rmtree(other)
            elif time.time() - status.st_mtime > OLD_SECONDS:
                other.rmdir()
            else:
                continue
            removed.append(other)
    with suppress(OSError):
        for file in sorted(folder.parent.glob(f"{pattern}/{CLAIM}")):
            if file.parent != folder and file.parent.lstat().st_uid == os.getuid() and is_free(file):
                shutil.rmtree(file.parent, ignore_errors=True)
                removed.append(file.parent)
        new = folder / f"{CLAIM}.new"  # it has its name only once it is locked
        descriptor = os.open(new, os.O_RDWR | os.O_CREAT, 0o600)
        _HELD.append(descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.replace(new, folder / CLAIM)
    return removed


def may_be_in_use(folder: Path, changed: float, table: Path = Path("/proc/self/mountinfo")) -> bool:
    """Whether a living process of this user may have made a folder: an older Python, with this place for its own.

    On a network file system it may be one of another machine. changed: when the folder was changed, seconds since 1970.
    """
    import psutil

    if mount_of(folder, table)[0] not in OF_ONE_MACHINE:
        return True
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        try:
            if process.uids().real != os.getuid() or process.create_time() > changed + SLACK_SECONDS:
                continue
            python = any("python" in word or "snakemake" in word for word in process.cmdline())
            if python and _makes_folders_at(process.environ(), folder):
                return True
        except psutil.NoSuchProcess:
            continue
        except psutil.Error:  # it cannot be asked
            return True
    return False


def _makes_folders_at(variables: Mapping[str, str], folder: Path) -> bool:
    """Whether temporary folders or the cache of a process with these variables are where a folder is."""
    temporary = next((variables[name] for name in ("TMPDIR", "TEMP", "TMP") if variables.get(name)), "/tmp")
    cache = variables.get("XDG_CACHE_HOME") or f"{variables.get('HOME', '')}/.cache"
    return folder.parent.resolve() == Path(temporary).resolve() or folder.resolve().is_relative_to(
        Path(cache).resolve()
    )


def is_free(file: Path) -> bool:
    """Whether no process holds the lock of a file."""
    with file.open("rb") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
