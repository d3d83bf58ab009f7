"""What a file says about its making: the footer of a table, the manifest of a policy. No row and no weight is read.

Every file of a run has a name (`extra/s0/i1/generate`), a digest of its content, the job that made it, and names and
digests of what it was made from. So whether a file belongs where it lies can be told from the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from extra_rl.config.sections import SHARED
from extra_rl.errors import InputError
from extra_rl.models.digests import MANIFEST
from extra_rl.models.policy import read_manifest
from extra_rl.results import file_name
from extra_rl.tables.files import file_digest, read_digest, read_footer

ABSENT = "(not set)"
"""What is shown for a key that only one of two jobs has."""


@dataclass(frozen=True)
class Identity:
    """Who made a file, and from what.

    name: as in its own footer; empty where no stage wrote the file. digest: of its content; None for a table that was
    written before tables had one. job: `Job` as a mapping. inputs: name -> digest.
    """

    path: Path
    name: str
    digest: str | None
    job: Mapping[str, Any]
    inputs: Mapping[str, str]


def has_identity(path: Path) -> bool:
    """Whether a file is a table or a policy's manifest; summaries and pages for readers are neither."""
    return path.suffix == ".parquet" or path.name == MANIFEST


def identity_of(path: Path) -> Identity:
    """Read the identity of a table or of a policy's manifest. InputError where its footer or JSON cannot be read."""
    if path.name == MANIFEST:
        footer = read_manifest(path)
        digest: str | None = footer["digest"]
    else:
        try:
            footer, digest = read_footer(path)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise InputError(
                f"{path}: not a readable Parquet file ({' '.join(str(error).split())}). Delete it and run again."
            ) from error
    inputs = footer.get("inputs", {}).values()
    return Identity(
        path,
        footer.get("name", ""),
        digest,
        footer.get("job", {}),
        {one["name"]: one["digest"] for one in inputs},
    )


def content_digest(path: Path) -> str:
    """The digest by which footers know a table: the one in its own footer, else that of its bytes."""
    return read_digest(path) or file_digest(path)


def require_place(path: Path, footer: Mapping[str, Any]) -> None:
    """InputError for a file in a run's results that is not the one that belongs there.

    Tables swapped between arms, seeds or iterations keep their contract, so only the name in the footer tells them
    apart. A path that is not laid out like a run may hold any table.
    """
    expected, found = file_name(path), footer.get("name", "")
    if expected is None or found == expected:
        return
    what = f"{found} by its footer" if found else "a file that no stage wrote (it has no name in its footer)"
    raise InputError(
        f"{path} holds {what}; {expected} belongs there. It was copied or renamed. Put the right file back, or delete "
        "it and run again; `extra check RESULTS` lists every file in a wrong place, and the command that makes it."
    )


def differences(made: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Say where two jobs differ, one text a key as a user writes it: `update.learning_rate: 0.0003, now 0.03`.

    made: the job in a footer. expected: the job that the configuration gives today.
    """
    stage = str(expected.get("stage", ""))
    flat = _flat(made), _flat(expected)
    found = []
    for key in sorted({*flat[0], *flat[1]}):
        old, new = (keys.get(key, ABSENT) for keys in flat)
        if old != new:
            found.append(f"{_as_written(key, stage)}: {_shown(old)}, now {_shown(new)}")
    return sorted(found)


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted path -> value of every leaf; an empty mapping is a leaf."""
    leaves: dict[str, Any] = {}
    for key, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            leaves |= _flat(inner, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = inner
    return leaves


def _as_written(key: str, stage: str) -> str:
    """The key of a configuration file for a path in a job: a shared section is not a part of the stage's own."""
    if not key.startswith("config."):
        return {"version": f"version of the stage {stage}", "since": "settings of the schedule, from"}.get(key, key)
    inner = key.removeprefix("config.")
    return inner if inner.partition(".")[0] in SHARED else f"{stage}.{inner}"


def _shown(value: object) -> str:
    text = value if value is ABSENT else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def first_sentence(error: Exception, path: Path) -> str:
    """The first sentence of an error, without the path that it begins with: for a line that names the path itself."""
    return re.split(r"(?<!\.)\. (?=[A-Z])", str(error).removeprefix(f"{path}: "))[0].rstrip(".")
