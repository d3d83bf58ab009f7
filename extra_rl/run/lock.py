"""The lock of a results folder: one run at a time writes it, and no lock outlives its run.

Snakemake's own lock is a file that remains after kill -9 and must then be removed by hand. This one is `flock`: the
kernel releases it when the process that holds it ends, however it ends. This also works on a network file system that
passes `flock` on to its server, as NFS version 4 does. Where a file system refuses locks, or keeps them to each
machine, the run says so (docs/filesystems.md).
"""

from __future__ import annotations

import atexit
import errno
import fcntl
import os
import platform
import re
import sys
import time
from pathlib import Path
from typing import IO

from extra_rl.errors import InputError, disk_fault

LOCK_NAME = ".lock"

UNLOCKED_VARIABLE = "EXTRA_NO_LOCK"
"""Environment variable: any value lets a run go on without a lock where the file system refuses locks."""

REFUSED = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
"""Errors of `flock` on a file system without locks, for example Lustre that is mounted without `-o flock`."""

LOCAL = {
    "nfs": ("nolock", "local_lock=all", "local_lock=flock"),
    "nfs4": ("local_lock=all", "local_lock=flock"),
    "lustre": ("localflock",),
    "cifs": ("nobrl",),
}
"""Kind of file system -> mount options with which it keeps locks to each machine."""

_OWNER = re.compile(r"process (\d+) on (.+?), since ([^,]+?)(, ended .+)?\s*")
_HELD: list[int] = []
"""File descriptors of held locks. They stay open, and so held, until the process ends; no child inherits them."""


def hold(folder: Path) -> int:
    """Lock `folder` (created if absent) until this process ends, or until `release` gets the descriptor returned.

    Raises InputError, which names the other process, when another process holds the lock, and InputError where the
    file system has no locks. A note on standard error says where a lock does not exclude other machines.
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
        flock(descriptor, path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise InputError(
            f"{folder} is being written by another run ({path.read_text().strip()}). Wait for it or stop it, or give "
            "this run another `name`: two runs would overwrite each other's files."
        ) from None
    except InputError:
        os.close(descriptor)
        raise
    _HELD.append(descriptor)
    before = os.pread(descriptor, 500, 0).decode(errors="replace")
    for note in (note_of_another_host(before, folder), note_of_local_locks(folder)):
        if note:
            print(f"NOTE: {note}", file=sys.stderr, flush=True)
    started = time.strftime("%Y-%m-%d %H:%M:%S")
    _write(descriptor, path, f"process {os.getpid()} on {platform.node()}, since {started}\n")
    atexit.register(_note_end, descriptor, os.getpid())
    return descriptor


def release(descriptor: int) -> None:
    """Release a lock before the process ends."""
    _note_end(descriptor, os.getpid())
    _HELD.remove(descriptor)
    os.close(descriptor)


def flock(file: int | IO[str] | IO[bytes], path: Path, operation: int) -> None:
    """Call `fcntl.flock`; where the file system has no locks, raise InputError, or go on with UNLOCKED_VARIABLE set.

    Raises BlockingIOError where another process holds the lock and the operation does not wait.
    """
    try:
        fcntl.flock(file, operation)
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        if os.environ.get(UNLOCKED_VARIABLE):
            return
        raise InputError(
            f"{path}: its file system refuses locks ({error.strerror}), so nothing would keep a second run from "
            "writing into the same folder. Mount it with locks (NFS: version 4, or 3 with its lock service; Lustre: "
            f"-o flock), or put the results elsewhere, or set {UNLOCKED_VARIABLE}=1 and take care yourself that only "
            "one run writes there (docs/filesystems.md)."
        ) from error


def note_of_another_host(text: str, folder: Path) -> str:
    """A note, if the lock was taken although its text names a process of another machine that did not end in order.

    That process was killed, or it lives and this file system keeps locks to each machine: nothing here can tell.
    """
    found = _OWNER.fullmatch(text)
    if found is None or found[4] or found[2] == platform.node():
        return ""
    return (
        f"the last run of {folder} was process {found[1]} on {found[2]} (since {found[3]}), which has not noted its "
        "end. It was killed, or locks do not reach from one machine to the other. Make sure that it is gone: "
        f"`ssh {found[2]} ps -p {found[1]}`."
    )


def note_of_local_locks(folder: Path, table: Path = Path("/proc/self/mountinfo")) -> str:
    """A note, if the folder is on a file system that keeps locks to each machine, by the table of mounts."""
    kind, options = mount_of(folder.resolve(), table)
    local = [option for option in LOCAL.get(kind, ()) if option in options]
    if not local:
        return ""
    return (
        f"{folder} is on {kind} with the mount option {local[0]}, so its lock excludes other runs on this machine "
        "only. Start no run of the same results on another one (docs/filesystems.md)."
    )


def mount_of(folder: Path, table: Path) -> tuple[str, set[str]]:
    """Kind and options of the file system on which a folder lies; "" where the table cannot be read."""
    kind, options, longest = "", set[str](), -1
    try:
        lines = table.read_text().splitlines()
    except OSError:
        return kind, options
    for line in lines:
        left, _, right = line.partition(" - ")
        point = Path(left.split()[4].encode().decode("unicode_escape"))
        if folder.is_relative_to(point) and len(point.parts) >= longest:
            longest = len(point.parts)
            kind, options = right.split()[0], {*left.split()[5].split(","), *right.split()[2].split(",")}
    return kind, options


def _write(descriptor: int, path: Path, text: str) -> None:
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)
    except OSError as error:
        raise disk_fault(error, path) or error from error


def _note_end(descriptor: int, process: int) -> None:
    """Add to the text of a held lock that its process has ended in order; in a forked child, do nothing."""
    if descriptor not in _HELD or os.getpid() != process:
        return
    text = os.pread(descriptor, 500, 0).decode(errors="replace").rstrip()
    try:
        os.pwrite(descriptor, f"{text}, ended {time.strftime('%Y-%m-%d %H:%M:%S')}\n".encode(), 0)
    except OSError:  # a full disk: the next run then prints a note at most
        return
