"""Notices that the files of a policy change while a stage uses them.

A policy is compared with its manifest when it is loaded (`models.digests`). Weights on a CPU may stay mapped to their
file, so a later change of the file changes the model in memory: what is sampled then belongs to no policy. Between
loading and writing, only the files' status is compared, which costs nothing; a file that was touched is hashed again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from extra_rl.errors import InputError
from extra_rl.models.digests import is_weights, listed_files, require_listed

Status = tuple[int, int, int, int]


class WeightsWatch:
    """The status of all weight files of some directories at one moment, and whether it still holds."""

    def __init__(self, directories: Iterable[Path]) -> None:
        self._found = {directory: _statuses(directory) for directory in directories}

    def require_unchanged(self) -> None:
        """InputError where a weight file is not the one that was there at the beginning.

        A file that was only touched, copied over itself or linked passes where a manifest lists its digest.
        """
        for directory, before in self._found.items():
            now = _statuses(directory)
            if now == before:
                continue
            if listed_files(directory):
                require_listed(directory, is_weights)  # names the file, if its content differs
                continue
            changed = sorted(name for name in before if before[name][:3] != now.get(name, ())[:3])
            if changed:
                raise InputError(
                    f"{directory / changed[0]} changed while it was in use, so nothing was written. Run again once "
                    "nothing writes it."
                )


def _statuses(directory: Path) -> dict[str, Status]:
    """File name -> inode, bytes, mtime and ctime of the weights in a directory; none where it is not there."""
    if not directory.is_dir():
        return {}
    found = {}
    for entry in os.scandir(directory):
        if is_weights(entry.name) and entry.is_file():
            status = entry.stat()
            found[entry.name] = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return found
