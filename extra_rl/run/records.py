"""Run records (`<stage>.run.json`): what each stage cost, next to its tables; they are an input of no rule."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from extra_rl import __version__
from extra_rl.errors import InputError
from extra_rl.tables.files import file_digest

OPENING_SECONDS = "opening_s"
"""Figure of a sampling stage: seconds until its sampler was ready."""
MISMATCH_TOLERANCE = "mismatch_tolerance"
"""Figure of `score_entropy`: the tolerance on the mean difference of sampler and policy, in nats."""


NODES = "nodes"
"""Figure of a stage that ran on several nodes, with as many devices on each: their number."""
MEASURING = ("evaluate", "audit")
"""Stages that measure a run without being part of its training."""
SECONDS = {"device_seconds": "device-seconds", "compute_seconds": "CPU-seconds"}
"""Key of `cost` -> name of that currency. Device-seconds are the wall seconds for which stages held devices, times the
number of these devices."""


def code_state() -> dict[str, str]:
    """Return the version of this package and, in a git checkout, its commit: `unknown` where git cannot tell.

    `changes`: "yes" where tracked files differ from the commit; absent otherwise.
    """
    root = Path(__file__).resolve().parents[2]
    found = {"version": __version__}
    if not (root / ".git").exists():
        return found
    try:
        commit = _git(root, "rev-parse", "--short=12", "HEAD")
        changes = {"changes": "yes"} if _git(root, "status", "--porcelain", "--untracked-files=no") else {}
    except (OSError, subprocess.SubprocessError):
        return {**found, "commit": "unknown"}
    return {**found, "commit": commit, **changes}


def code_version() -> str:
    """Return the state of the code as one text: `0.1.0, commit 1a2b3c4d5e6f, changed`."""
    state = code_state()
    commit = f", commit {state['commit']}" if "commit" in state else ""
    return state["version"] + commit + (", changed" if "changes" in state else "")


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", root, *words], capture_output=True, text=True, check=True, timeout=20)
    return done.stdout.strip()


DIGESTS = "digests"
"""Key of a record: output that is no table and no policy, by its name -> SHA-256 of its bytes."""


def read_json(path: Path) -> dict[str, Any]:
    """Return the object of a JSON file that a stage wrote, such as summary.json.

    Raises InputError where it is not readable JSON, or not what the record next to it says that the stage wrote.
    """
    if damage := damage_of(path):
        raise InputError(f"{path}: {damage}. Delete it and run again; snakemake rebuilds it.")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def damage_of(path: Path) -> str | None:
    """Return how a JSON file of a run is damaged; None where it is whole, and for what no record knows."""
    try:
        if not isinstance(json.loads(path.read_text()), dict):
            return "holds no JSON object: it was damaged"
    except (OSError, ValueError) as error:
        return f"not readable JSON ({error}): it was damaged"
    if path.name.endswith(".run.json"):
        return None  # of records there is no digest
    for record in path.parent.glob("*.run.json"):
        with suppress(OSError, ValueError, AttributeError):
            digest = json.loads(record.read_text()).get(DIGESTS, {}).get(path.name)
            if digest not in (None, file_digest(path)):
                return f"its bytes have changed since it was written ({record.name} has another SHA-256)"
    return None


def records(folder: Path, pattern: str = "*.run.json") -> list[dict[str, Any]]:
    """All records in `folder` whose names match the pattern, in the order of their paths."""
    found = []
    for path in sorted(folder.glob(pattern)):
        found.append(read_record(path) | {"path": str(path)})
    return found


def read_record(path: Path) -> dict[str, Any]:
    """Return one record. Raises InputError where it is damaged: nothing is made from it, so it may be deleted."""
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"{path}: not readable JSON ({error}): it was damaged. It holds times and no content: delete it, and the "
            "times of this stage are left out."
        ) from error


def relocate(found: Path, recorded: str, wanted: str) -> Path:
    """Return the present path of `wanted`: records name paths relative to the directory in which the run was made.

    It also works for a run that was copied as a whole.

    Args:
        found: present path of a file of the run.
        recorded: path of that file in the record.
        wanted: path of another file in the record.
    """
    here, tail = found.resolve(), Path(recorded)
    if tail.is_absolute() or here.parts[-len(tail.parts) :] != tail.parts:
        return Path(wanted)
    return Path(*here.parts[: -len(tail.parts)]) / wanted


def seconds_of_iteration(folder: Path) -> dict[str, float]:
    """Stage (as its file is named) -> wall seconds of its run, for the finished stages of one iteration.

    For a stage with shards: the seconds of its slowest shard.
    """
    return {stage: max(r["wall_s"] for r in found) for stage, found in records_by_stage(folder).items()}


def tolerance_of_iteration(folder: Path) -> float | None:
    """The tolerance, in nats, for sampler and policy in an iteration; None where no token was compared."""
    found = (record["figures"] for stage in records_by_stage(folder).values() for record in stage)
    return max((figures[MISMATCH_TOLERANCE] for figures in found if MISMATCH_TOLERANCE in figures), default=None)


def records_by_stage(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Stage (as its file is named) -> the record of its run; of a gathered table, the records of its shards follow."""
    found = {}
    for record in records(folder):
        shards = record["inputs"].values() if record.get("stage") == "gather" else ()
        beside = [folder / "shards" / f"{Path(table).stem}.run.json" for table in shards]
        found[Path(record["path"]).name.removesuffix(".run.json")] = [
            record,
            *(read_record(path) for path in beside if path.is_file()),
        ]
    return found


def cost(found: Iterable[dict[str, Any]]) -> dict[str, float | None]:
    """Total wall, CPU and device seconds of some records.

    `device_seconds` is None where a record has none, because an earlier version of the code wrote it.
    """
    rows = list(found)
    known = all("device_s" in r for r in rows)
    return {
        "wall_seconds": round(sum(r["wall_s"] for r in rows), 3),
        "compute_seconds": round(sum(r["cpu_s"] for r in rows), 3),
        "device_seconds": round(sum(r["device_s"] for r in rows), 3) if known else None,
    }


def training_cost(run: Path) -> dict[str, float | None]:
    """Return `cost` of the stages of an arm and seed that train: without evaluations and second judges.

    The warm start is not below the folder and so not part of it. Stages without a record are left out. run: folder of
    the arm and seed.
    """
    return cost(row for row in records(run, "**/*.run.json") if row.get("stage") not in MEASURING)


def kind_of_seconds(costs: Iterable[Mapping[str, Any]]) -> str:
    """Return the key of `cost` in which the arms of a run are compared, one for all of them.

    `device_seconds` where stages held devices, else `compute_seconds`; the latter also where a record does not tell.
    costs: `training_cost` of every arm and seed.
    """
    held = [found["device_seconds"] for found in costs]
    return "device_seconds" if None not in held and any(held) else "compute_seconds"
