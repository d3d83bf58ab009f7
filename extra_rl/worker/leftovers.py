"""Folders of workers under /tmp: held by a lock while their process lives, removed by the next run once it is dead.

A worker's folder holds its socket, and the worker removes it when it ends. Where kill -9 hits the worker, the folder
stays. The lock is on the folder itself, held by the process that the worker must not outlive (Snakemake): the kernel
frees it when that process ends, however it ends, and a folder whose lock is free belongs to nobody.
"""

import fcntl
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from extra_rl.worker.client import connect

PLACE, PREFIX = Path("/tmp"), "extra-worker-"
NEW = ".new-"
"""A folder has this before its name until its lock is taken, and never after."""
YOUNG_SECONDS = 60.0
"""Younger folders without a lock are left alone, if their names begin with NEW."""


def make_folder(place: Path = PLACE) -> Path:
    """Make a folder of mode 0700 that is this process's until it ends, and remove those of dead processes.

    No child inherits the lock: the descriptor is closed at exec, and stays open here.
    """
    remove_abandoned(place)
    new = Path(tempfile.mkdtemp(prefix=f"{NEW}{PREFIX}", dir=place))
    fcntl.flock(os.open(new, os.O_RDONLY), fcntl.LOCK_EX)
    return new.rename(place / new.name.removeprefix(NEW))


def remove_abandoned(place: Path = PLACE) -> list[Path]:
    """Remove this user's worker folders whose owner has died; return them. Other users' are never touched."""
    removed = []
    for folder in sorted([*place.glob(f"{PREFIX}*"), *place.glob(f"{NEW}{PREFIX}*")]):
        with suppress(OSError):  # another run removes the same folder
            status = folder.lstat()
            old = not folder.name.startswith(NEW) or time.time() - status.st_mtime > YOUNG_SECONDS
            if status.st_uid == os.getuid() and old and not _is_owned(folder):
                shutil.rmtree(folder, ignore_errors=True)
                removed.append(folder)
    return removed


def _is_owned(folder: Path) -> bool:
    """Whether a living process holds the folder's lock, or a worker listens in it."""
    connection = connect(str(folder / "socket"))
    if connection is not None:
        connection.close()
        return True
    descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
