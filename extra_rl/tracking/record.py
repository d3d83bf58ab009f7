"""What a tracker gets: records of iterations and evaluations, and the facts of their run. Standard library only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Kind = Literal["iteration", "evaluation"]

COLUMNS = ("rollout_id", "origin", "problem", "response", "verdict", "reward", "advantage")
"""Columns of the table of rollouts."""


@dataclass(frozen=True)
class Record:
    """The metrics of one iteration, or of the evaluation of one policy.

    Args:
        kind: evaluations have their own records, since they may be made long after their iteration.
        step: the iteration; -1: the initial policy.
        time: when its last stage ended, in seconds since 1970 (UTC).
        digest: of the metrics that an equal run has too.
        metrics: name -> number (docs/metrics.md).
        rollouts: rows of a table with the columns COLUMNS.
    """

    kind: Kind
    step: int
    time: float
    digest: str
    metrics: dict[str, float]
    rollouts: list[list[Any]] = field(default_factory=list)

    @property
    def key(self) -> str:
        """`iteration/5`."""
        return f"{self.kind}/{self.step}"

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Read such a line. ValueError or TypeError for another text."""
        return cls(**json.loads(text))


@dataclass(frozen=True)
class TrackedRun:
    """The run that the records belong to.

    Args:
        project: of the configuration.
        group: name of the results.
        name: `{group}/{arm}/s{seed}`; with the number of the attempt, where the history of the first was replaced.
        identifier: unique also among results of the same name elsewhere; letters, digits, `_`, `.` and `-` only.
        cell: arm, seed and attempt as the name of a folder: `extra-s0`, `extra-s0-2`.
        folder: of the tracker's own files.
        config: the whole configuration, and the code's version.
        settings: the section `tracking`.
    """

    project: str
    group: str
    name: str
    identifier: str
    cell: str
    folder: Path
    config: dict[str, Any]
    settings: dict[str, Any]


def digest_of(metrics: dict[str, float]) -> str:
    """16 hexadecimal digits that tell equal metrics from others."""
    return hashlib.sha256(json.dumps(metrics, sort_keys=True).encode()).hexdigest()[:16]


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value; empty mappings and lists are values."""
    leaves: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            leaves |= flat(value, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves


def markdown_table(rows: Sequence[Sequence[Any]]) -> str:
    """The table of rollouts as Markdown that shows every character of a text as itself, also `<`, `|` and line ends."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + " --- |" * len(COLUMNS)]
    lines += [f"| {' | '.join(_cell(value) for value in row)} |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return "".join(ESCAPED.get(character, character) for character in text)


ESCAPED = {character: f"&#{ord(character)};" for character in "<>&|\\`*_[]{}()#~!\"'$"} | {
    "\n": "&#10;",
    "\r": "&#13;",
    "\t": " ",
}
"""What Markdown and HTML would read as markup."""
