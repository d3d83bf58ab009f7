"""Two files of one arm and seed: the records, one line of JSON each, and what every tracker has received of them."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from extra_rl.errors import InputError, disk_fault
from extra_rl.run.lock import flock
from extra_rl.tables.files import write_whole
from extra_rl.tracking.record import Record

FOLDER = "tracking"
"""Folder of all trackers, in the results."""
RECORDS, LEDGER, LOCK, RUN_FILE = "metrics.jsonl", "ledger.json", ".lock", "run.json"


def cell_name(arm: str, seed: int) -> str:
    """`extra-s0`: the folder of an arm and seed below `tracking/`, and below the folder of a tracker."""
    return f"{arm}-s{seed}"


def read_records(path: Path) -> list[Record]:
    """Return the records of a file in the order in which they were logged; [] for no file.

    A last line that was cut off by a kill is left out; InputError for any other line that is no record.
    """
    if not path.is_file():
        return []
    lines = path.read_bytes().split(b"\n")
    found = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            found.append(Record.from_json(line.decode()))
        except (TypeError, ValueError) as error:
            raise InputError(
                f"{path}: line {number} is no record ({error}). Delete the file, and run again: it is made again from "
                "the tables."
            ) from None
    return found


def append_records(path: Path, records: Sequence[Record]) -> None:
    """Add records, after the last whole line."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as handle:
            whole = path.read_bytes().rfind(b"\n") + 1
            handle.truncate(whole)
            handle.write("".join(f"{record.to_json()}\n" for record in records).encode())
            handle.flush()
            os.fsync(handle.fileno())
    except OSError as error:
        raise disk_fault(error, path) or error from error


def replace_records(path: Path, records: Sequence[Record]) -> None:
    """Write the file anew, whole or not at all."""
    write_whole(path, lambda tmp: tmp.write_text("".join(f"{record.to_json()}\n" for record in records)))


@dataclass
class Delivered:
    """What one tracker has received.

    Args:
        target: project and place; another one begins with nothing.
        attempt: number of the run there; a replaced history begins the next.
        sent: key and digest of every record that the tracker has received, in order.
        state: of the tracker's own code.
    """

    target: str
    attempt: int = 1
    sent: list[tuple[str, str]] = field(default_factory=list)
    state: dict[str, Any] = field(default_factory=dict)


@dataclass
class Ledger:
    """What all trackers of an arm and seed have received.

    Args:
        trackers: name -> what it has received.
        behind: tracker -> why it has not received everything.
        outages: tracker that is behind -> when it failed last, in seconds since 1970, and after how many seconds.
        marker: output of the last tracking job.
    """

    trackers: dict[str, Delivered] = field(default_factory=dict)
    behind: dict[str, str] = field(default_factory=dict)
    outages: dict[str, tuple[float, float]] = field(default_factory=dict)
    marker: str = ""

    @classmethod
    def read(cls, path: Path) -> Ledger:
        """Read the file; an empty ledger where there is none. InputError where it is damaged."""
        if not path.is_file():
            return cls()
        try:
            raw = json.loads(path.read_text())
            trackers = {name: Delivered(**entry) for name, entry in raw["trackers"].items()}
            for entry in trackers.values():
                entry.sent = [(key, digest) for key, digest in entry.sent]
            outages = {name: (when, seconds) for name, (when, seconds) in raw["outages"].items()}
            return cls(trackers, raw["behind"], outages, raw["marker"])
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"{path}: not what a tracking job writes ({error}). Delete it, and what the trackers have of this arm "
                "and seed: they get everything again."
            ) from None

    def write(self, path: Path) -> None:
        write_whole(path, lambda tmp: tmp.write_text(json.dumps(asdict(self), indent=1) + "\n"))


def identifier_in(path: Path) -> str:
    """Return the identifier in the file RUN_FILE, a new one where there is none.

    Trackers know a run by it: results of the same name in another folder, or on another machine, are other runs.
    """
    try:
        return str(json.loads(path.read_text())["id"])
    except (OSError, ValueError, LookupError, TypeError):
        return secrets.token_hex(4)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file meanwhile; the kernel releases it however the process ends. InputError without locks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        flock(handle, path, fcntl.LOCK_EX)
        yield


def unfinished(results: Path) -> list[str]:
    """Outputs of tracking jobs that are to run again: a tracker of their arm and seed is behind."""
    found = []
    for path in sorted((results / FOLDER).glob(f"*/{LEDGER}")):
        ledger = Ledger.read(path)
        if ledger.behind and ledger.marker:
            found.append(ledger.marker)
    return found
