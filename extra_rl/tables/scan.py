"""Views for readers: an iteration, or a whole run, as one polars LazyFrame with all tables joined."""

from __future__ import annotations

import warnings
from pathlib import Path

import polars as pl

from extra_rl.errors import InputError
from extra_rl.results import IterationFolder, RunFolder
from extra_rl.tables.iteration import SCORES
from extra_rl.tables.signal import is_replay


def scan_iteration(path: str | Path) -> pl.LazyFrame:
    """One row per rollout of an iteration folder, with the columns of all stages.

    These are the columns of generate or regenerate, verify, score_entropy, novelty and advantage, and `arm`, `seed`,
    `iteration` and `replayed` (whether its prefix comes from a stored trajectory: `choose_prefixes.replay`). Columns of
    stages that have not run yet are absent. A rollout whose `reward` is null was excluded.
    Raises InputError where the folder has no rollouts.
    """
    folder = Path(path)
    if not (folder / "generate.parquet").is_file():
        raise InputError(f"{folder}: it has no generate.parquet. Pass a folder iteration_NNNN of a run's results.")
    sources = [name for name in ("generate", "regenerate") if (folder / f"{name}.parquet").is_file()]
    rows = pl.concat([_with_scores(folder, source) for source in sources], how="diagonal")
    for name in ("novelty", "advantage"):
        if (folder / f"{name}.parquet").is_file():
            columns = pl.scan_parquet(folder / f"{name}.parquet")
            rows = rows.join(columns.drop("reward", strict=False), on="rollout_id", how="left", maintain_order="left")
    place = pl.col("rollout_id").str.extract_groups(r"^(?<arm>.+)/s(?<seed>\d+)/i(?<iteration>\d+)/")
    placed = rows.with_columns(place.alias("place")).unnest("place")
    return placed.with_columns(pl.col("seed", "iteration").cast(pl.Int64), replayed=is_replay())


def scan_run(path: str | Path) -> pl.LazyFrame:
    """`scan_iteration` of every iteration folder below `path` (an experiment, an arm or a seed), in order.

    Warns of iterations that are left out because their generate.parquet is missing. Raises InputError where no
    iteration folder has rollouts.
    """
    named = (IterationFolder.at(folder) for folder in Path(path).glob("**/iteration_*"))
    folders = sorted(folder.path for folder in named if folder and folder.table("generate").is_file())
    if not folders:
        raise InputError(f"{path}: it contains no iteration folder with rollouts.")
    gaps = [
        str(run.iteration(number))
        for run in map(RunFolder, sorted({folder.parent for folder in folders}))
        for number in run.gaps("generate")
    ]
    if gaps:
        warnings.warn(f"generate.parquet is gone, so these iterations are left out: {', '.join(gaps)}", stacklevel=2)
    return pl.concat([scan_iteration(folder) for folder in folders], how="diagonal")


def _with_scores(folder: Path, source: str) -> pl.LazyFrame:
    """The rollouts of one sampling stage with the verdicts and scores that exist."""
    rows = pl.scan_parquet(folder / f"{source}.parquet")
    for stage in SCORES:
        file = folder / f"{stage}_{source}.parquet"
        if file.is_file():
            rows = rows.join(pl.scan_parquet(file), on="rollout_id", how="left", maintain_order="left")
    return rows
