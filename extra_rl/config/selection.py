"""A selection on the command line: `--config arms=extra,grpo seeds=0,1` runs a part of the configuration.

`--config cell=grpo/s0` selects one arm (with regimes, one arm in one regime) and seed, as a part of a run that another
Snakemake conducts: a job of the workflow with `granularity: run` passes it to the Snakemake within its allocation.

Snakemake replaces the key of the file by the text. The file's arms and seeds are read again from the file, the whole
configuration is validated, and then everything but the selection is left out. The jobs of what is left are those of the
whole configuration, so that a later run adds the rest and makes nothing again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from extra_rl.config.arms import merge
from extra_rl.config.comparisons import WARM_START, named_pairs
from extra_rl.config.experiment import Experiment
from extra_rl.config.files import read_yaml
from extra_rl.config.mistakes import nearest
from extra_rl.errors import ConfigError
from extra_rl.results import run_name

CELL = "cell"


class Selection(NamedTuple):
    """Names of arms, and seeds; None: all of the configuration. cell: `<arm>/s<seed>`, instead of both; "": none."""

    arms: list[str] | None = None
    seeds: list[int] | None = None
    cell: str = ""


def split(raw: Mapping[str, Any], files: Iterable[str | Path]) -> tuple[dict[str, Any], Selection]:
    """Return the whole configuration and the selection in it.

    Args:
        raw: the configuration, in which texts may stand instead of `arms` and `seeds`.
        files: the configuration files, in the order in which they were merged.
    Raises ConfigError where the names are not a list.
    """
    whole = dict(raw)
    if isinstance(raw.get(CELL), str):
        return whole, Selection(cell=whole.pop(CELL))
    arms, seeds = raw.get("arms"), raw.get("seeds")
    if not (isinstance(arms, str | list) or (isinstance(seeds, str | int) and not isinstance(seeds, bool))):
        return whole, Selection()
    configured: dict[str, Any] = {}
    for file in files:
        configured = merge(configured, read_yaml(Path(file)))
    selection = Selection()
    if isinstance(arms, str | list) and isinstance(configured.get("arms"), Mapping):
        whole["arms"] = configured["arms"]
        selection = selection._replace(arms=words(arms, "--config arms"))
    if isinstance(seeds, str | int) and isinstance(configured.get("seeds", [0]), list):
        whole["seeds"] = configured.get("seeds", [0])
        selection = selection._replace(seeds=numbers(words(seeds, "--config seeds")))
    return whole, selection


def words(given: str | int | list[Any], option: str) -> list[str]:
    """Return the names in a text `a,b`, each once. option: named by the ConfigError for an empty name."""
    found = [str(word).strip() for word in (given if isinstance(given, list) else str(given).split(","))]
    if not found or not all(found):
        raise ConfigError(f"{option} {given}: name what is to run, separated by commas and without spaces.")
    return list(dict.fromkeys(found))


def numbers(found: list[str]) -> list[int]:
    """Return seeds as numbers; ConfigError for one that is none."""
    for word in found:
        if not word.isdecimal():
            raise ConfigError(f"seeds {','.join(found)}: {word!r} is not a seed.")
    return [int(word) for word in found]


def select(experiment: Experiment, selection: Selection) -> Experiment:
    """Return the experiment without the arms and seeds that are not selected.

    Differences that `compare.comparisons` names are left out where an arm of theirs is. Raises ConfigError for an arm
    or a seed that the configuration does not have.
    """
    if selection == Selection():
        return experiment
    if selection.cell:
        return select_cell(experiment, selection.cell)
    names = list(dict.fromkeys(cell.arm for cell in experiment.cells.values()))
    arms = names if selection.arms is None else selection.arms
    for name in arms:
        if name not in names:
            raise ConfigError(
                f"--config arms={','.join(arms)}: there is no arm {name!r}; the configuration has {', '.join(names)}"
                f"{nearest(name, names)}"
            )
    run = experiment.run
    seeds = run.seeds if selection.seeds is None else selection.seeds
    for seed in seeds:
        if seed not in run.seeds:
            raise ConfigError(
                f"--config seeds={','.join(map(str, seeds))}: the configuration has no seed {seed}, only "
                f"{', '.join(map(str, run.seeds))}. A list replaces its seeds: "
                f"--config seeds='{sorted({*run.seeds, *seeds})}'"
            )
    cells = [folder for folder, cell in experiment.cells.items() if cell.arm in arms]
    return _part(experiment, cells, [seed for seed in run.seeds if seed in seeds])


def select_cell(experiment: Experiment, name: str) -> Experiment:
    """Return one arm and seed of an experiment. name: `<arm>/s<seed>`; ConfigError where there is none of that name."""
    known = {run_name(arm, seed): (arm, seed) for arm in experiment.arms for seed in experiment.run.seeds}
    if name not in known:
        raise ConfigError(f"--config cell={name}: the configuration has no such arm and seed{nearest(name, known)}")
    arm, seed = known[name]
    return _part(experiment, [arm], [seed]).model_copy(update={"cell": name})


def _part(experiment: Experiment, folders: list[str], seeds: list[int]) -> Experiment:
    """Return the experiment with these folders of arms and these seeds only."""
    cells = {folder: experiment.cells[folder] for folder in folders}
    compare = experiment.common["compare"]
    known = {*(cell.arm for cell in cells.values()), WARM_START}
    kept = [
        text
        for text, pair in zip(compare["comparisons"], named_pairs(compare["comparisons"]), strict=True)
        if {pair.arm, pair.base} <= known
    ]
    return experiment.model_copy(
        update={
            "run": experiment.run.only(seeds),
            "cells": cells,
            "arms": {folder: experiment.arms[folder] for folder in cells},
            "phases": {folder: experiment.phases.get(folder, []) for folder in cells},
            "common": experiment.common | {"compare": compare | {"comparisons": kept}},
        }
    )
