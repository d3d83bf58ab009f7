"""The lock of a results folder: one run at a time writes it, and no lock outlives its run.

Snakemake's own lock is a file that remains after kill -9 and must then be removed by hand. This one is `flock`: the
kernel releases it when the process that holds it ends, however it ends. This also works on a network file system that
passes `flock` on to its server, as NFS version 4 does.
"""

from __future__ import annotations

import fcntl
import os
import platform
import time
from pathlib import Path

from extra_rl.errors import InputError, disk_fault

LOCK_NAME = ".lock"

_HELD: list[int] = []
"""File descriptors of held locks. They stay open, and so held, until the process ends; no child inherits them."""


def hold(folder: Path) -> int:
    """Lock `folder` (created if absent) until this process ends, or until `release` gets the descriptor returned.

    Raises InputError, which names the other process, when another process holds the lock.
    """
    path = folder / LOCK_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise disk_fault(error, path) or InputError(
            f"{path}: cannot be made ({error}). Name another folder."
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise InputError(
            f"{folder} is being written by another run ({path.read_text().strip()}). Wait for it or stop it, or give "
            "this run another `name`: two runs would overwrite each other's files."
        ) from None
    _HELD.append(descriptor)
    started = time.strftime("%Y-%m-%d %H:%M:%S")
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {platform.node()}, since {started}\n".encode(), 0)
    except OSError as error:
        raise disk_fault(error, path) or error from error
    return descriptor


def release(descriptor: int) -> None:
    """Release a lock before the process ends."""
    _HELD.remove(descriptor)
    os.close(descriptor)
