"""Evidence of an experiment: two small tables from which every figure of a results page can be recomputed.

    NAME_counts.parquet   judged and correct samples of every problem, of each final policy and warm start
    NAME_runs.parquet     what each arm and seed spent, and what became of its groups

Results of later runs are added to the files: an experiment may be run in several sittings and on several machines.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import dataframely as dy
import polars as pl

from extra_research.contracts import EvidenceCounts, EvidenceRuns
from extra_rl.errors import InputError
from extra_rl.results import run_name
from extra_rl.tables.checksum import require_undamaged
from extra_rl.tables.files import check, write_table

RUN = ["folder", "seed"]
"""Columns that identify a run, or with seed -1 a warm start."""
SECONDS = ("cpu_s", "idle_cpu_s", "device_s")
"""Columns that are rounded to milliseconds."""
LISTED = 5
"""Maximum number of runs that a message lists."""


@dataclass(frozen=True)
class Evidence:
    """counts: EvidenceCounts; the problems of all runs are the same, in the same order. runs: EvidenceRuns."""

    counts: pl.DataFrame
    runs: pl.DataFrame

    def keys(self) -> pl.DataFrame:
        """Return folder and seed of the runs and warm starts, in the order of the counts."""
        return self.counts.select(RUN).unique(maintain_order=True)


@dataclass(frozen=True)
class Merged:
    """evidence: of both sources. added, replaced: folder and seed of runs that are new, and that had other values."""

    evidence: Evidence
    added: pl.DataFrame
    replaced: pl.DataFrame


def empty() -> Evidence:
    """Return evidence without a run."""
    return Evidence(EvidenceCounts.create_empty(), EvidenceRuns.create_empty())


def paths_of(prefix: Path) -> tuple[Path, Path]:
    """Return the files of counts and runs. prefix: their common path, `folder/NAME`."""
    return prefix.with_name(f"{prefix.name}_counts.parquet"), prefix.with_name(f"{prefix.name}_runs.parquet")


def exists(prefix: Path) -> bool:
    """Return whether one of the two files exists."""
    return any(path.is_file() for path in paths_of(prefix))


def read(prefix: Path) -> Evidence:
    """Return the evidence of two files. Columns that may be null may also be missing.

    Raises InputError where a file is missing or damaged, or the files have different runs or problems, ContractError
    where a file breaks its contract.
    """
    counts, runs = paths_of(prefix)
    found = normalised(_read(counts, EvidenceCounts), _read(runs, EvidenceRuns), counts, runs)
    ours = found.keys().filter(pl.col("seed") >= 0)
    for here, there, file in ((ours, found.runs, runs), (found.runs, ours, counts)):
        lacking = here.join(there, on=RUN, how="anti")
        if len(lacking):
            raise InputError(f"{file} lacks {listed(lacking)}, which the other file has. Pack the results again.")
    require_same_problems([found.counts], str(counts))
    return found


def write(evidence: Evidence, prefix: Path) -> tuple[Path, Path]:
    """Write both files and return their paths. Equal evidence has equal bytes."""
    counts, runs = paths_of(prefix)
    write_table(evidence.counts, counts, EvidenceCounts, {"name": "evidence/counts"})
    write_table(evidence.runs, runs, EvidenceRuns, {"name": "evidence/runs"})
    return counts, runs


def normalised(
    counts: pl.DataFrame, runs: pl.DataFrame, counts_path: Path = Path("counts"), runs_path: Path = Path("runs")
) -> Evidence:
    """Return evidence with the types of the contracts, sorted by folder and seed; problems keep their order.

    Raises ContractError, which names the path, where a table breaks its contract.
    """
    typed = [_typed(counts, EvidenceCounts, counts_path), _typed(runs, EvidenceRuns, runs_path)]
    rounded = typed[1].with_columns(pl.col(SECONDS).round(3))
    return Evidence(typed[0].sort(RUN, maintain_order=True), rounded.sort(RUN, maintain_order=True))


def merge(old: Evidence, new: Evidence, *, replace: bool = False, what: str = "the files") -> Merged:
    """Return both together. A value that only one of them knows, such as `machine`, is kept.

    Args:
        old: evidence that exists.
        new: evidence that is added.
        replace: take the values of `new` where a run has other ones, instead of an error.
        what: name of `old`, for messages.
    Raises InputError for a run that has other values, unless `replace`, and for runs of another problem set.
    """
    require_same_problems([old.counts, new.counts], f"{what} and the new runs")
    replaced = conflicts(old, new)
    if len(replaced) and not replace:
        warm = any(folder.startswith("warm_start") for folder in replaced["folder"])
        raise InputError(
            f"{listed(replaced)} already exist{'s' if len(replaced) == 1 else ''} in {what} with other values. "
            + ("Another machine trains another initial policy: its runs form other blocks. " * warm)
            + "Add --replace to take the new values, or another --name to keep both."
        )
    kept = old.keys().join(new.keys(), on=RUN, how="anti")
    same = old.keys().join(new.keys(), on=RUN, how="semi").join(replaced, on=RUN, how="anti")
    counts = pl.concat([old.counts.join(kept, on=RUN, how="semi", maintain_order="left"), new.counts])
    values = [name for name in EvidenceRuns.columns() if name not in RUN]
    known = old.runs.join(same, on=RUN, how="semi")
    filled = new.runs.join(known, on=RUN, how="left", suffix=" old", maintain_order="left").with_columns(
        pl.coalesce(name, f"{name} old") for name in values
    )
    runs = pl.concat([old.runs.join(kept, on=RUN, how="semi"), filled.select(*RUN, *values)])
    return Merged(normalised(counts, runs), new.keys().join(old.keys(), on=RUN, how="anti"), replaced)


def merged(parts: Iterable[tuple[str, Evidence]]) -> Evidence:
    """Return the evidence of several named sources together. Raises as `merge`."""
    found, names = empty(), ""
    for name, part in parts:
        found = merge(found, part, what=names or "the files").evidence
        names = f"{names}, {name}" if names else name
    return found


def conflicts(old: Evidence, new: Evidence) -> pl.DataFrame:
    """Return folder and seed of the runs and warm starts of which both know different values."""
    values = [name for name in EvidenceRuns.columns() if name not in RUN]
    runs = old.runs.join(new.runs, on=RUN, suffix=" new").filter(
        pl.any_horizontal((pl.col(name) != pl.col(f"{name} new")).fill_null(False) for name in values)
    )
    counts = old.counts.join(new.counts, on=[*RUN, "problem_id"], suffix=" new").filter(
        (pl.col("n") != pl.col("n new")) | (pl.col("c") != pl.col("c new"))
    )
    return pl.concat([runs.select(RUN), counts.select(RUN)]).unique().sort(RUN)


def require_same_problems(tables: Iterable[pl.DataFrame], what: str) -> None:
    """Raise InputError unless all runs were evaluated on the same problems in the same order.

    tables: EvidenceCounts. what: their name, for the message.
    """
    lists = pl.concat([table.group_by(RUN, maintain_order=True).agg("benchmark", "problem_id") for table in tables])
    if lists.is_empty():
        return
    first = lists.head(1).select("benchmark", "problem_id")
    other = lists.join(first, on=["benchmark", "problem_id"], how="anti")
    if len(other):
        raise InputError(
            f"{what}: {listed(other)} {'was' if len(other) == 1 else 'were'} evaluated on other problems than "
            f"{listed(lists.head(1))}, so they are no evidence of one experiment. Pack them under another --name."
        )


def listed(keys: pl.DataFrame) -> str:
    """Return the names of runs and warm starts, for a message. keys: folder and seed."""
    names = [folder if seed < 0 else run_name(folder, seed) for folder, seed in keys.select(RUN).iter_rows()]
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _read(path: Path, contract: type[dy.Schema]) -> pl.DataFrame:
    try:
        require_undamaged(path)
        return pl.read_parquet(path, glob=False)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file. `extra evidence pack` writes it.") from None
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{path}: not a readable Parquet file ({error}).") from error


def _typed(table: pl.DataFrame, contract: type[dy.Schema], path: Path) -> pl.DataFrame:
    """Return the contract's columns with its types; those that may be null are added where they are missing."""
    schema = contract.create_empty().schema
    may_lack = {name for name, column in contract.columns().items() if column.nullable}
    added = {name: pl.lit(None, schema[name]) for name in may_lack if name not in table.columns}
    known = {name: dtype for name, dtype in schema.items() if name in table.columns}
    try:
        return check(table.cast(known).with_columns(**added), contract, path)  # type: ignore[arg-type]
    except pl.exceptions.InvalidOperationError as error:
        raise InputError(f"{path}: a column has another type than the contract requires ({error}).") from error
