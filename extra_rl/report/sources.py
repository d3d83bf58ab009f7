"""What a results folder holds: arms, seeds, regimes, warm starts, and what is missing."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from extra_rl.config.comparisons import WARM_START
from extra_rl.errors import InputError
from extra_rl.results import RunFolder
from extra_rl.tables.files import read_provenance


@dataclass(frozen=True)
class Cell:
    """One folder of arms: an arm, in a regime where there are regimes. value: the regime's number."""

    folder: str
    arm: str
    regime: str = ""
    value: float | None = None


@dataclass(frozen=True)
class Sources:
    """A results folder as it was found.

    cells: in the order of the configuration where it is known. iterations: (cell folder, seed) -> folders of finished
    iterations in order. section: the section of the stage `compare`; {} before it has run.
    """

    results: Path
    cells: tuple[Cell, ...]
    iterations: dict[tuple[str, int], list[Path]]
    warm_starts: dict[str, Path]
    section: dict[str, Any]
    summary: dict[str, Any]

    @property
    def arms(self) -> list[str]:
        """Names of arms without regime, in order; the first is the base."""
        return list(dict.fromkeys(cell.arm for cell in self.cells))

    @property
    def regimes(self) -> list[str]:
        return list(dict.fromkeys(cell.regime for cell in self.cells))

    @property
    def values(self) -> dict[str, float]:
        """Regime -> its number, where it has one."""
        return {cell.regime: cell.value for cell in self.cells if cell.value is not None}

    @property
    def seeds(self) -> list[int]:
        return sorted({seed for _, seed in self.iterations})

    def table(self, name: str) -> pl.DataFrame | None:
        """A table of the comparison, None where it is not there."""
        path = self.results / f"{name}.parquet"
        return pl.read_parquet(path, glob=False) if path.is_file() else None

    def missing(self) -> list[str]:
        """What an unfinished run lacks; one sentence each."""
        said = []
        if not self.section:
            said.append("compare.parquet is missing: the run is not finished, or compare has not run.")
            if self.regimes != [""]:
                said.append("Regimes are read off the names of the folders; their numbers are not known yet.")
        if not self.warm_starts:
            said.append("No warm start has been evaluated.")
        longest = max((len(folders) for folders in self.iterations.values()), default=0)
        for (folder, seed), found in self.iterations.items():
            if len(found) < longest:
                said.append(f"{folder}/s{seed} has {len(found)} of {longest} iterations.")
        for run in RunFolder.below(self.results):
            if gaps := run.gaps("summarize"):
                numbers = ", ".join(map(str, gaps))
                said.append(
                    f"{run.arm}/s{run.seed}: summarize.parquet of iteration {numbers} is gone, so these are left out."
                )
        seeds = self.seeds
        for cell in self.cells:
            absent = [seed for seed in seeds if (cell.folder, seed) not in self.iterations]
            if absent:
                said.append(f"{cell.folder} has no finished iteration of seed {', '.join(map(str, absent))}.")
        return said


def find(results: Path) -> Sources:
    """Reads which arms and seeds there are. Raises InputError where no iteration is finished."""
    found: dict[tuple[str, int], list[Path]] = {}
    for run in RunFolder.below(results):
        if finished := run.iterations(with_table="summarize"):
            found[run.arm, run.seed] = list(finished.values())
    if not found:
        raise InputError(f"{results}: no finished iteration below it. Is it the folder of a run (results/<name>)?")
    section = _compare_section(results)
    summary_file = results / "summary.json"
    summary = json.loads(summary_file.read_text()) if summary_file.is_file() else {}
    folders = _in_order({folder for folder, _ in found}, summary)
    regimes: dict[str, float | None] = dict(section.get("regimes") or {}) if section else guessed_regimes(folders)
    order = {key: place for place, key in enumerate(folders)}
    return Sources(
        results=results,
        cells=tuple(cell_of(folder, regimes) for folder in folders),
        iterations=dict(sorted(found.items(), key=lambda item: (order[item[0][0]], item[0][1]))),
        warm_starts={
            path.parent.name: path.parent for path in sorted(results.glob(f"{WARM_START}*/evaluate_figures.parquet"))
        },
        section=section,
        summary=summary,
    )


def guessed_regimes(folders: list[str]) -> dict[str, float | None]:
    """Regimes of a run that was not compared yet: the beginnings of all names, if an arm comes after two of them."""
    pairs = [folder.partition("-")[::2] for folder in folders]
    names = list(dict.fromkeys(regime for regime, _ in pairs))
    repeated = len({arm for _, arm in pairs}) < len(pairs)
    return dict.fromkeys(names) if all(arm for _, arm in pairs) and len(names) > 1 and repeated else {}


def cell_of(folder: str, regimes: dict[str, float | None]) -> Cell:
    """Regime names hold no `-`, so `<regime>-<arm>` is cut at the first one; without regimes a folder is an arm."""
    regime, _, arm = folder.partition("-")
    return Cell(folder, arm, regime, regimes[regime]) if arm and regime in regimes else Cell(folder, folder)


def _in_order(folders: set[str], summary: dict[str, Any]) -> list[str]:
    """As the configuration orders them where summary.json knows; else by name, grpo first."""
    known = [name for name in summary.get("arms", {}) if name in folders]
    return known + sorted(folders - set(known), key=lambda name: (not re.search(r"(^|-)grpo$", name), name))


def _compare_section(results: Path) -> dict[str, Any]:
    path = results / "compare.parquet"
    if not path.is_file():
        return {}
    section: dict[str, Any] = read_provenance(path).get("job", {}).get("config", {})
    return section
