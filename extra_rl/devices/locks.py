"""One process to a device: every stage that computes on a GPU takes a free one first, and waits where there is none.

The lock is `flock` on one file a device, as in run/lock.py: the kernel frees it when the process ends, at kill -9 too.
All runs of a user share the locks of a machine. Source: our decision (docs/decisions/0009-shards.md).
"""

from __future__ import annotations

import fcntl
import os
import stat
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from extra_rl.devices.nvml import gpu_uuids
from extra_rl.errors import ConfigError, InputError

POLL_SECONDS = 0.2
VISIBLE = "CUDA_VISIBLE_DEVICES"

_HELD: dict[Path, int] = {}
"""Lock file -> its descriptor, open, and so held, until the process ends or releases it."""

_TAKEN: list[str] = []
"""Entries of CUDA_VISIBLE_DEVICES that `take_cuda` has taken for this process."""


def take_cuda(count: int = 1) -> list[str]:
    """Takes `count` free CUDA devices for this process, and hides the others from it (CUDA_VISIBLE_DEVICES).

    Call it before anything touches CUDA, which reads the variable once. Waits, and says so, while others use them. A
    second call gives the same devices. Where the driver lists no device and the variable names none, none is taken.
    Raises ConfigError when more are asked for than this process may use.
    """
    if _TAKEN:
        if count > len(_TAKEN):
            raise ConfigError(f"{count} CUDA devices are asked for, but this process works on {len(_TAKEN)} already.")
        return list(_TAKEN)
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # indices as NVML and nvidia-smi have them
    entry_of = {key: entry for entry, key in visible_devices().items()}
    if not entry_of:
        return []
    listed = ",".join(entry_of.values())
    if count > len(entry_of):
        raise ConfigError(
            f"{count} CUDA devices are asked for (sampling.engine.tensor_parallel, update.processes), but this process "
            f"may use {len(entry_of)} ({VISIBLE}: {listed}). Ask for fewer, or give the job more."
        )
    taken = take_free(list(entry_of), count, lock_folder(), wait=False)
    if taken is None:
        print(f"waiting for {count} free CUDA device(s) of {listed} ...", file=sys.stderr, flush=True)
        taken = take_free(list(entry_of), count, lock_folder()) or []
    _TAKEN[:] = [entry_of[key] for key in taken]
    os.environ[VISIBLE] = ",".join(_TAKEN)
    return list(_TAKEN)


def visible_devices() -> dict[str, str]:
    """Entry of CUDA_VISIBLE_DEVICES -> what its lock is called, for the devices that this process may use, in order.

    Without the variable the entries are 0, 1, ... A lock is called after the UUID, which is the same in every
    container and Slurm job of a machine; indices are not. Where NVML does not list the entry, after the entry itself.
    """
    uuids = gpu_uuids()
    named = os.environ.get(VISIBLE)
    entries = [str(index) for index in range(len(uuids))] if named is None else named.split(",")
    found: dict[str, str] = {}
    for entry in map(str.strip, entries):
        number = int(entry) if entry.lstrip("-").isdecimal() else None
        if not entry or (number is not None and (number < 0 or number >= len(uuids) > 0)):
            break  # as CUDA does: nothing after the first entry that is none
        found[entry] = uuids[number] if number is not None and uuids else _whole_uuid(entry, uuids)
    return found


def _whole_uuid(entry: str, uuids: Sequence[str]) -> str:
    """CUDA takes a UUID's beginning for the whole."""
    return next((uuid for uuid in uuids if uuid.startswith(entry)), entry)


def lock_folder() -> Path:
    """The same for all processes of a user on a machine: neither TMPDIR nor XDG_RUNTIME_DIR is, in jobs and cron."""
    return Path(f"/tmp/extra-devices-{os.getuid()}")


def take_free(names: Sequence[str], count: int, folder: Path, wait: bool = True) -> list[str] | None:
    """Takes `count` of the named things, the first free ones in the order given; all of them or none.

    They are held until this process ends, however it ends, or calls `release`; no child inherits them. folder: where
    the lock files lie, made with mode 0700. When too few are free: polls until there are enough, or returns None
    where `wait` is false. Nothing is held while it waits, so that two takers of several cannot wait for each other.
    Raises ConfigError when more are asked for than are named, InputError when the folder is someone else's.
    """
    if count > len(names):
        raise ConfigError(f"{count} are asked for, but there are {len(names)}: {', '.join(names)}.")
    _own_folder(folder)
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
    """Gives things back before the process ends; those that it does not hold are left alone."""
    for name in names:
        descriptor = _HELD.pop(_file(folder, name), None)
        if descriptor is not None:
            os.close(descriptor)


def _file(folder: Path, name: str) -> Path:
    return folder / f"{quote(name, safe='')}.lock"


def _lock(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    _HELD[path] = descriptor
    return True


def _own_folder(folder: Path) -> None:
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700, parents=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise InputError(
            f"{folder}: locks of devices lie there, so it must be a folder of yours that nobody else may enter. "
            "Remove it, or chmod 700 it."
        )


def _close_in_child() -> None:
    """A forked child lets go of its copies, or a device would stay taken until the last child has ended. What its
    parent has taken it goes on using."""
    for descriptor in _HELD.values():
        os.close(descriptor)
    _HELD.clear()


os.register_at_fork(after_in_child=_close_in_child)
