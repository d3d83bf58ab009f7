"""Read the records of one arm and seed from its finished tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from extra_rl.errors import InputError
from extra_rl.results import SHARDS, RunFolder
from extra_rl.run import records
from extra_rl.tracking.metrics import evaluation_metrics, iteration_metrics, lasting
from extra_rl.tracking.record import COLUMNS, Kind, Record, digest_of

INITIAL = -1
"""Step of the initial policy."""
SUMMARY, FIGURES = "summarize", "evaluate_figures"


def keys_of(run: RunFolder, start: Path, until: int) -> Iterator[tuple[Kind, int]]:
    """Yield what is finished up to an iteration: (kind, step) in the order in which it is logged.

    start: folder of the initial policy.
    """
    if (start / f"{FIGURES}.parquet").is_file():
        yield "evaluation", INITIAL
    evaluated = run.iterations(FIGURES)
    for step in sorted({*run.iterations(SUMMARY), *evaluated}):
        if step <= until:
            if (run.iteration(step) / f"{SUMMARY}.parquet").is_file():
                yield "iteration", step
            if step in evaluated:
                yield "evaluation", step


def read_record(
    results: Path, run: RunFolder, start: Path, key: tuple[Kind, int], settings: Mapping[str, Any]
) -> Record:
    """Return one record. Raises InputError for a table that cannot be read.

    Args:
        results: `results/<name>`.
        run: the arm and seed.
        start: folder of the initial policy.
        key: kind and step of the record (`keys_of`).
        settings: the section `tracking`.
    """
    kind, step = key
    folder = start if step == INITIAL else run.iteration(step)
    try:
        if kind == "evaluation":
            return _evaluation(run, folder, step)
        return _iteration(results, folder, step, settings)
    except (pl.exceptions.PolarsError, OSError, LookupError, ValueError) as error:
        raise InputError(f"{folder}: its tables cannot be read for tracking ({error}).") from error


def _iteration(results: Path, folder: Path, step: int, settings: Mapping[str, Any]) -> Record:
    summary = pl.read_parquet(folder / f"{SUMMARY}.parquet", glob=False).row(0, named=True)
    steps = pl.read_parquet(folder / "update.parquet", glob=False)
    sampled = {
        stage: pl.read_parquet(folder / f"{stage}.parquet", columns=["sampled_tokens"], glob=False).sum().item()
        for stage in ("generate", "regenerate")
        if (folder / f"{stage}.parquet").is_file()
    }
    seconds = {stage: value for stage, value in records.seconds_of_iteration(folder).items() if stage in STAGES}
    metrics = iteration_metrics(summary, steps, sampled, seconds, _peaks(folder))
    rollouts = sample_of_rollouts(results, folder, settings["rollouts"], settings["characters"])
    ended = _ended(folder, SUMMARY)
    return Record("iteration", step, ended, digest_of(lasting(metrics)), metrics, rollouts)


def _evaluation(run: RunFolder, folder: Path, step: int) -> Record:
    figures = pl.read_parquet(folder / f"{FIGURES}.parquet", glob=False)
    tokens = 0
    if (folder / f"{SUMMARY}.parquet").is_file():
        tokens = pl.read_parquet(folder / f"{SUMMARY}.parquet", glob=False)["total_sampled_tokens"][0]
    record = _record(folder, "evaluate")
    metrics = evaluation_metrics(figures, step, tokens, record["wall_s"] if record else None)
    return Record("evaluation", step, _ended(folder, "evaluate"), digest_of(lasting(metrics)), metrics)


STAGES = (
    *("select", "generate", "verify_generate", "score_entropy_generate", "choose_prefixes", "regenerate"),
    *("verify_regenerate", "score_entropy_regenerate", "novelty", "advantage", "update", "summarize"),
)
"""Stages of an iteration, as their files are named."""


def _peaks(folder: Path) -> list[float]:
    """Peak memory in MiB of every process of an iteration's stages, with those of shards and of a shared update."""
    found = []
    for record in [*records.records(folder), *records.records(folder / SHARDS)]:
        if Path(record["path"]).name != "evaluate.run.json":  # it may be made long after the iteration
            found.append(max(record["peak_memory_mb"], record["figures"].get("peak_memory_mb_per_process", 0.0)))
    return found


def _record(folder: Path, stage: str) -> dict[str, Any] | None:
    path = folder / f"{stage}.run.json"
    return records.read_record(path) if path.is_file() else None


def _ended(folder: Path, stage: str) -> float:
    """When a stage ended, by its run record; without one, when its table was written."""
    record = _record(folder, stage)
    if record is None:
        return (folder / f"{stage}.parquet").stat().st_mtime
    return datetime.fromisoformat(record["started"]).timestamp() + float(record["wall_s"])


def sample_of_rollouts(results: Path, folder: Path, count: int, characters: int) -> list[list[Any]]:
    """Return rollouts, evenly spaced over those of generate and of regenerate; rows of COLUMNS.

    Args:
        results: `results/<name>`, for the texts of the problems.
        folder: of the iteration.
        count: most rollouts.
        characters: the longest text; the middle of a longer one is left out.
    """
    tables = [_judged(folder, of) for of in ("generate", "regenerate") if (folder / f"{of}.parquet").is_file()]
    if not count or not tables:
        return []
    rows = pl.concat(tables)
    total = rows.select(pl.len()).collect().item()
    places = sorted({place * total // count for place in range(count)} if total > count else range(total))
    picked = rows.with_row_index("place").filter(pl.col("place").is_in(places)).collect()
    if (folder / "advantage.parquet").is_file():
        advantages = pl.scan_parquet(folder / "advantage.parquet", glob=False).select("rollout_id", "advantage")
        wanted = advantages.filter(pl.col("rollout_id").is_in(picked["rollout_id"].implode())).collect()
        picked = picked.join(wanted, on="rollout_id", how="left", maintain_order="left")
    else:
        picked = picked.with_columns(advantage=pl.lit(None, dtype=pl.Float32))
    train = results / "prepare" / "train.parquet"
    if train.is_file():
        statements = pl.scan_parquet(train, glob=False).select("problem_id", "problem")
        wanted = statements.filter(pl.col("problem_id").is_in(picked["problem_id"].implode())).collect()
        picked = picked.join(wanted, on="problem_id", how="left", maintain_order="left")
    else:
        picked = picked.with_columns(problem=pl.col("problem_id"))
    texts = [pl.col("verdict", "origin").cast(pl.String), pl.col("reward", "advantage").cast(pl.Float64).round(6)]
    found = picked.with_columns(texts).select(COLUMNS).rows()
    return [[shortened(value, characters) if isinstance(value, str) else value for value in row] for row in found]


def _judged(folder: Path, of: str) -> pl.LazyFrame:
    rollouts = pl.scan_parquet(folder / f"{of}.parquet", glob=False)
    verdicts = pl.scan_parquet(folder / f"verify_{of}.parquet", glob=False)
    return rollouts.select("rollout_id", "problem_id", "origin", "response").join(
        verdicts.select("rollout_id", "verdict", "reward"), on="rollout_id", how="left", maintain_order="left"
    )


def shortened(text: str, characters: int) -> str:
    """The text with the middle left out where it is longer than `characters`; control characters become `?`."""
    clean = "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)
    if len(clean) <= characters:
        return clean
    mark = f" [... {len(clean) - characters:,} characters left out ...] "
    begin = characters * 2 // 3
    return clean[:begin] + mark + clean[len(clean) - (characters - begin) :]
