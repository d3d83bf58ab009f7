"""Files with times in the future, as after a clock was set back: Snakemake takes none of them as an input.

It compares the times of a job's inputs and outputs, so every job that reads such a file would fail until the clock has
reached it. What a file is does not follow from its time (docs/decisions/0020-files-are-known-by-content.md).
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

TOLERANCE_NS = 1_000_000_000


def bring_back(results: Path) -> list[Path]:
    """Set the times of the files below a folder that lie in the future to the present; return these files, sorted.

    The present is that of the file system, which on a network is the clock of the server. Files of the past keep their
    times, so no file becomes newer than one that was made from it.
    """
    if not results.is_dir():
        return []
    with tempfile.TemporaryFile(dir=results) as file:
        now = os.fstat(file.fileno()).st_mtime_ns
    found = [
        path
        for path in sorted(results.rglob("*"))
        if path.is_file() and path.stat().st_mtime_ns > now + TOLERANCE_NS and not path.is_symlink()
    ]
    for path in found:
        os.utime(path, ns=(now, now))
    return found


def note(results: Path, files: list[Path]) -> str:
    """The note on what `bring_back` has changed; "" for nothing."""
    if not files:
        return ""
    return (
        f"{len(files)} file(s) of {results} had times in the future, {files[0]} for example: the clock was set back, "
        "or clocks of machines differ. They have the present time now, since Snakemake takes no input from the future. "
        "Their content is compared by digests."
    )
