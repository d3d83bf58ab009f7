"""What a results folder contains: arms, seeds, regimes, warm starts, and what is missing."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from extra_rl.config.comparisons import WARM_START
from extra_rl.errors import InputError
from extra_rl.results import IterationFolder, RunFolder
from extra_rl.run.context import CONTEXT_FILE, RunContext
from extra_rl.run.records import read_json
from extra_rl.tables.files import read_provenance

_EVALUATED = re.compile(r"/i(\d+)/evaluate$", re.ASCII)


@dataclass(frozen=True)
class Cell:
    """The results folder of an arm, in a regime where there are regimes. value: the regime's number."""

    folder: str
    arm: str
    regime: str = ""
    value: float | None = None


@dataclass(frozen=True)
class Sources:
    """The contents of a results folder.

    cells: in the order of the configuration where it is known. iterations: (cell folder, seed) -> folders of finished
    iterations in order. section: the section of the stage `compare`; {} before it has run. planned: (cell folder, seed)
    -> iterations of the run; {} where it is unknown.
    """

    results: Path
    cells: tuple[Cell, ...]
    iterations: dict[tuple[str, int], list[Path]]
    warm_starts: dict[str, Path]
    section: dict[str, Any]
    summary: dict[str, Any]
    planned: dict[tuple[str, int], int] = field(default_factory=dict)

    @property
    def arms(self) -> list[str]:
        """Return the names of arms without regime, in order; the first is the base."""
        return list(dict.fromkeys(cell.arm for cell in self.cells))

    @property
    def regimes(self) -> list[str]:
        """Return the regimes in order; [""] without regimes."""
        return list(dict.fromkeys(cell.regime for cell in self.cells))

    @property
    def values(self) -> dict[str, float]:
        """Return regime -> its number, where it has one."""
        return {cell.regime: cell.value for cell in self.cells if cell.value is not None}

    @property
    def seeds(self) -> list[int]:
        """Return the experiment seeds."""
        return sorted({seed for _, seed in self.iterations})

    def table(self, name: str) -> pl.DataFrame | None:
        """Return a table of the comparison, None where it is missing or of an earlier, shorter run."""
        path = self.results / f"{name}.parquet"
        return pl.read_parquet(path, glob=False) if self.section and path.is_file() else None

    def unfinished(self) -> str:
        """Return how far an unfinished run is, `6 of 40 iterations`; "" where it is finished, or its length unknown."""
        done = {place: IterationFolder.at(found[-1]).number + 1 for place, found in self.iterations.items()}  # type: ignore[union-attr]
        total = sum(self.planned.values())
        count = sum(min(done.get(place, 0), length) for place, length in self.planned.items())
        if not total or (count >= total and self.section):
            return ""
        text = f"{count:,} of {total:,} iterations"
        if len(self.planned) > 1:
            text += f" ({len(self.planned)} arms and seeds of {max(self.planned.values()):,})"
        return text if count < total else f"{text}, not compared yet"

    def missing(self) -> list[str]:
        """Return one sentence for each thing that an unfinished run lacks."""
        said = []
        if not self.section:
            old = (self.results / "compare.parquet").is_file()
            state = "is of an earlier, shorter run and left out" if old else "is missing"
            said.append(f"compare.parquet {state}: the run is not finished.")
            if self.regimes != [""]:
                said.append("Regimes are guessed from the names of the folders; their numbers are not known yet.")
        if not self.warm_starts:
            said.append("No warm start has been evaluated.")
        longest = max((len(folders) for folders in self.iterations.values()), default=0)
        for (folder, seed), found in self.iterations.items():
            if len(found) < longest:
                said.append(f"{folder}/s{seed} has {len(found)} of {longest} iterations.")
        for run in RunFolder.below(self.results):
            if gaps := run.gaps("summarize"):
                numbers = ", ".join(map(str, gaps))
                said.append(f"{run.name}: summarize.parquet of iteration {numbers} is gone, so these are left out.")
        seeds = sorted({*self.seeds, *(seed for _, seed in self.planned)})
        cells = {cell.folder for cell in self.cells}
        if absent := dict.fromkeys(folder for folder, _ in self.planned if folder not in cells):
            said.append(f"No finished iteration of {', '.join(absent)}.")
        for cell in self.cells:
            behind = [seed for seed in seeds if (cell.folder, seed) not in self.iterations]
            if behind:
                said.append(f"{cell.folder} has no finished iteration of seed {', '.join(map(str, behind))}.")
        return said


def find(results: Path, compared: bool = False) -> Sources:
    """Return the contents of a results folder. Raises InputError where no iteration is finished.

    compared: leave out the arms and seeds that are no part of the comparison, as a selection runs some only.
    """
    found: dict[tuple[str, int], list[Path]] = {}
    places = _compared(results) if compared else None
    for run in RunFolder.below(results):
        if places is not None and run.name not in places:
            continue
        if finished := run.iterations(with_table="summarize"):
            found[run.arm, run.seed] = list(finished.values())
    if not found:
        raise InputError(f"{results}: no finished iteration below it. Is it the folder of a run (results/<name>)?")
    context = _context(results)
    job = _compare_job(results, context.horizon.iterations)
    section, derived = job.get("config", {}), job.get("derived", {})
    summary_file = results / "summary.json"
    summary = read_json(summary_file) if section and summary_file.is_file() else {}
    planned = [name.rpartition("/s") for name in context.cells]
    folders = _in_order({folder for folder, _ in found}, summary, [folder for folder, _, _ in planned])
    regimes: dict[str, float | None] = dict(derived.get("regimes", {})) if section else guessed_regimes(folders)
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
        planned={(folder, int(seed)): context.horizon.iterations for folder, _, seed in planned},
    )


def guessed_regimes(folders: list[str]) -> dict[str, float | None]:
    """Return the regimes of a run before its comparison: the prefixes of all names, if an arm follows two of them."""
    pairs = [folder.partition("-")[::2] for folder in folders]
    names = list(dict.fromkeys(regime for regime, _ in pairs))
    repeated = len({arm for _, arm in pairs}) < len(pairs)
    return dict.fromkeys(names) if all(arm for _, arm in pairs) and len(names) > 1 and repeated else {}


def cell_of(folder: str, regimes: dict[str, float | None]) -> Cell:
    """Return the cell of a folder `<regime>-<arm>`, or `<arm>` without regimes. Names of regimes have no hyphen."""
    regime, _, arm = folder.partition("-")
    return Cell(folder, arm, regime, regimes[regime]) if arm and regime in regimes else Cell(folder, folder)


def _in_order(folders: set[str], summary: dict[str, Any], planned: list[str]) -> list[str]:
    """Return the folders in the order of summary.json, else of the configuration; others by name, grpo first."""
    known = list(dict.fromkeys(name for name in [*summary.get("arms", {}), *planned] if name in folders))
    return known + sorted(folders - set(known), key=lambda name: (not re.search(r"(^|-)grpo$", name), name))


def _compared(results: Path) -> set[str] | None:
    """`{arm}/s{seed}` of every policy in the comparison; None before it has run."""
    path = results / "compare.parquet"
    roles = read_provenance(path).get("inputs", {}) if path.is_file() else {}
    return {role.partition(":")[2] for role in roles if role.startswith("evaluate:")} or None


def _context(results: Path) -> RunContext:
    path = results / CONTEXT_FILE
    return RunContext.read(path) if path.is_file() else RunContext()


def _compare_job(results: Path, iterations: int) -> dict[str, Any]:
    """The job of the stage `compare`; {} before it has run, and where it compared an earlier, shorter run.

    iterations: of the run; 0: unknown.
    """
    path = results / "compare.parquet"
    if not path.is_file():
        return {}
    footer = read_provenance(path)
    compared = [int(found[1]) for one in footer.get("inputs", {}).values() if (found := _EVALUATED.search(one["name"]))]
    if iterations and compared and max(compared) + 1 < iterations:
        return {}
    job: dict[str, Any] = footer.get("job", {})
    return job
