"""Faults of local files of problems: a missing file, an unreadable one, a column that its first rows do not have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from extra_rl.config.sections import SourceConfig, TaskConfig
from extra_rl.errors import InputError
from extra_rl.preflight.hub import LOCAL, fault_of_name
from extra_rl.problems.columns import recognise
from extra_rl.problems.first_rows import first_rows

FIRST_ROWS = 20
"""Rows of a file whose columns are looked at."""


def faults_of_sources(task: TaskConfig) -> Iterator[str]:
    """One line for every fault of a local file that the task names."""
    if task.folder is not None and not Path(task.folder).is_dir():
        yield f"task.folder: {task.folder}: there is no such directory"
    if task.name != "math":
        return
    for key, sources in (("train", task.train), ("benchmarks", task.benchmarks)):
        for name, source in sources.items():
            yield from faults_of_source(f"task.{key}.{name}", source)


def faults_of_source(place: str, source: SourceConfig) -> Iterator[str]:
    """The fault of one source, if it has one. A data set of the hub is not looked at.

    place: path of the source in the configuration.
    """
    if source.path is None:
        dataset = str(source.dataset)
        if dataset.startswith(LOCAL) and not Path(dataset).exists():
            yield f"{place}.dataset: {dataset}: there is no such directory"
        elif reason := fault_of_name(dataset):
            yield f"{place}.dataset: {reason}"
        return
    try:
        table = first_rows(source.path, FIRST_ROWS)
        if table is not None:
            recognise(table, source)
    except InputError as error:
        yield f"{place}: {error}"
