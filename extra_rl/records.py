"""Run records (`<stage>.run.json`): what each stage cost, beside the tables and outside of every rule."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def records(folder: Path, pattern: str = "*.run.json") -> list[dict[str, Any]]:
    """All records below `folder`, in the order of their paths."""
    found = []
    for path in sorted(folder.glob(pattern)):
        found.append(json.loads(path.read_text()) | {"path": str(path)})
    return found


def seconds_of_iteration(folder: Path) -> dict[str, float]:
    """stage (as its file is named) -> wall seconds of its run, for the stages of one iteration that are done."""
    return {Path(r["path"]).name.removesuffix(".run.json"): r["wall_s"] for r in records(folder)}


def cost(found: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Wall- and CPU-seconds in all, over some records."""
    rows = list(found)
    return {
        "wall_seconds": round(sum(r["wall_s"] for r in rows), 3),
        "compute_seconds": round(sum(r["cpu_s"] for r in rows), 3),
    }
