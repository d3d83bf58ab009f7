"""The finished iterations of every arm and seed, followed while a run writes them.

A table appears whole or not at all (`tables.files.write_whole`), so each is read once, and again only when its file
changes. A later look costs one `stat` per iteration. Source: our decision.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from extra_rl.results import IterationFolder, RunFolder, iteration_name


class Stamp(NamedTuple):
    """What changes when a file is replaced."""

    modified_ns: int
    size: int
    inode: int


@dataclass(frozen=True)
class Iteration:
    """A finished iteration. finished: time of its summary, seconds since 1970. row: of `contracts.IterationSummary`."""

    number: int
    finished: float
    row: dict[str, Any]

    def get(self, name: str) -> Any:
        """Return a value of the row; None where an older version did not write the column."""
        return self.row.get(name)


@dataclass
class Cell:
    """One arm and seed. name: `extra/s0`. damaged: summaries that cannot be read -> the reason.

    iterations: those that could be read, in order. tolerance: of sampler and policy, nats, with the iteration (number,
    time) that it belongs to; None: not read yet.
    """

    run: RunFolder
    name: str
    damaged: dict[Path, str] = field(default_factory=dict)
    iterations: list[Iteration] = field(default_factory=list)
    tolerance: tuple[tuple[int, float], float] | None = None
    _read: dict[int, tuple[Stamp, Iteration | None]] = field(default_factory=dict)
    _held_out: dict[Path, tuple[Stamp, float | None]] = field(default_factory=dict)
    _folders: list[int] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Return the number of iterations up to the last finished one."""
        return self.iterations[-1].number + 1 if self.iterations else 0

    @property
    def gaps(self) -> list[int]:
        """Return earlier iterations that have a folder but no summary: the file is gone."""
        done = self.done
        return [number for number in self._folders if number < done and number not in self._read]

    def unfinished(self) -> list[int]:
        """Return the iterations that have a folder and come after the last finished one."""
        done = self.done
        return [number for number in self._folders if number >= done]

    def refresh(self) -> int:
        """Read the summaries that are new or have changed, and return how many. Files may vanish at any time."""
        self._folders = sorted(_iterations_of(self.run.path))
        found: dict[int, Stamp] = {}
        folder = str(self.run.path)
        for number in self._folders:
            if stamp := stamp_of(f"{folder}/{iteration_name(number)}/summarize.parquet"):
                found[number] = stamp
        gone = self._read.keys() - found.keys()
        for number in gone:
            self._forget(number)
        new = [number for number, stamp in found.items() if self._read.get(number, (None,))[0] != stamp]
        for number in new:
            self._forget(number)
            self._read[number] = (found[number], self._row(number, found[number]))
        if new or gone:
            self.iterations = [one for _, (_, one) in sorted(self._read.items()) if one is not None]
        return len(new)

    def held_out(self, every: int) -> tuple[int, float] | None:
        """Return (iteration, pass@1 in percent) of the last evaluated policy, mean over benchmarks.

        every: `evaluate_every` of the run; the last finished iteration is looked at in any case.
        """
        numbers = {number for number in self._read if every and (number + 1) % every == 0} | {self.done - 1}
        for number in sorted(numbers, reverse=True):
            path = self.run.path / iteration_name(max(number, 0)) / "evaluate_figures.parquet"
            stamp = stamp_of(path)
            if stamp is None:
                continue
            if self._held_out.get(path, (None,))[0] != stamp:
                self._held_out[path] = (stamp, pass_at_1(path))
            value = self._held_out[path][1]
            if value is not None:
                return number, value
        return None

    def _summary(self, number: int) -> Path:
        return self.run.path / iteration_name(number) / "summarize.parquet"

    def _forget(self, number: int) -> None:
        self._read.pop(number, None)
        self.damaged.pop(self._summary(number), None)

    def _row(self, number: int, stamp: Stamp) -> Iteration | None:
        import polars as pl

        path = self._summary(number)
        try:
            rows = pl.read_parquet(path, glob=False).to_dicts()
        except FileNotFoundError:
            return None
        except (OSError, pl.exceptions.PolarsError) as error:
            self.damaged[path] = str(error)
            return None
        if len(rows) != 1:
            self.damaged[path] = f"{len(rows)} rows instead of one"
            return None
        return Iteration(number, stamp.modified_ns / 1e9, rows[0])


def pass_at_1(path: Path) -> float | None:
    """Return pass@1 in percent, mean over benchmarks, of a table of `contracts.EvaluationFigures`; None without it."""
    import polars as pl

    from extra_rl.evaluation.figures import MEAN

    try:
        rows = pl.read_parquet(path, glob=False, columns=["benchmark", "metric", "k", "value"])
    except (OSError, pl.exceptions.PolarsError):
        return None  # `extra check` names damaged files; here only this figure stays empty
    found = rows.filter(pl.col("benchmark") == MEAN, pl.col("metric").cast(pl.String) == "pass_at_k", pl.col("k") == 1)
    return float(found["value"][0]) if len(found) else None


def stamp_of(path: Path | str) -> Stamp | None:
    """Return the stamp of a file; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return Stamp(found.st_mtime_ns, found.st_size, found.st_ino)


def _iterations_of(folder: Path) -> list[int]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries]
    except OSError:
        return []
    found = (IterationFolder.at(Path(name)) for name in names)
    return [one.number for one in found if one]
