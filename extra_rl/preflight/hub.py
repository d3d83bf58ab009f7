"""Names on the hub: told from paths, and noted before the first job, because only the stage itself can look them up."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from extra_rl.models.files import PACKAGE

LOCAL = (".", "/", "~")
"""How a name begins that is a path, and no name on the hub."""
NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
FILES = (".gguf", ".safetensors", ".bin", ".pt", ".pth", ".parquet", ".jsonl", ".json", ".csv", ".tsv", ".gz")
"""Suffixes of files, which no name on the hub has."""


def fault_of_name(name: str) -> str | None:
    """Return why a model or data set can be found neither here nor on the hub; None for what exists or may exist."""
    if Path(name).exists() or name.startswith((*LOCAL, PACKAGE)):
        return None  # paths are looked at on their own
    if NAME.fullmatch(name) and not name.endswith(FILES):
        return None
    return f"{name}: there is no such file or directory, and it is no name on the hub (ORGANISATION/NAME)"


def on_hub(prepare: Mapping[str, Any], *, problems: bool, model: bool) -> Iterator[str]:
    """Yield one line for every name that is looked up on the hub by a stage of this run.

    Args:
        prepare: the section of `prepare`, with the shared sections.
        problems, model: whether they are still to be read.
    """
    source = prepare["model"]["source"]
    if model and source != "new" and not source.startswith((*LOCAL, PACKAGE)) and not Path(source).exists():
        yield f"model.source: there is no directory {source} here, so warm_start looks the name up on the hub"
    sources = [
        (key, name, one)
        for key in ("train", "benchmarks")
        for name, one in (prepare["task"][key].items() if problems and prepare["task"]["name"] == "math" else ())
    ]
    for key, name, one in sources:
        found = one["dataset"]
        if found and not found.startswith(LOCAL) and not Path(found).exists():
            yield f"task.{key}.{name}: prepare looks the data set {found} up on the hub"
