"""One calibrated rate: wall seconds per response token, measured from the records of finished iterations.

No device is assumed. Everything is scaled by tokens, also constant times such as loading a model, so a measurement on
small batches overestimates the hours of large ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from extra_rl.errors import InputError
from extra_rl.results import IterationFolder

EVALUATION, ROLLOUTS = "evaluate", ("generate.parquet", "regenerate.parquet")


@dataclass(frozen=True)
class Rate:
    """Seconds per token of finished iterations.

    iterations: how many were measured. mean_response: tokens per rollout. seconds_per_token: of all stages of an
    iteration except the evaluation, per response token. evaluation_mean and evaluation_seconds_per_token: the same of
    evaluations, 0 where none was measured.
    """

    iterations: int
    mean_response: float
    seconds_per_token: float
    evaluation_mean: float = 0.0
    evaluation_seconds_per_token: float = 0.0

    def hours(self, tokens: float, evaluation_tokens: float) -> float:
        """Return hours of iterations and evaluations with these response tokens, one job after the other."""
        seconds = self.seconds_per_token * tokens + self.evaluation_seconds_per_token * evaluation_tokens
        return seconds / 3600


def measured(results: Path) -> Rate:
    """Return the rate of the finished iterations below a folder: a run, an arm, a seed, or one iteration.

    Raises InputError where no finished iteration below it has rollouts.
    """
    from extra_rl.run.records import seconds_of_iteration

    iterations = rows = tokens = samples = sampled = 0
    training = evaluating = 0.0
    for folder in (finished.path for finished in finished_iterations(results)):
        found = rows_and_tokens(folder, ROLLOUTS)
        if not found[1]:  # an iteration after the budget
            continue
        seconds = seconds_of_iteration(folder)
        iterations, rows, tokens = iterations + 1, rows + found[0], tokens + found[1]
        training += sum(taken for stage, taken in seconds.items() if stage != EVALUATION)
        if EVALUATION in seconds:
            found = rows_and_tokens(folder, [f"{EVALUATION}.parquet"])
            samples, sampled = samples + found[0], sampled + found[1]
            evaluating += seconds[EVALUATION]
    if not iterations:
        raise InputError(f"{results}: no finished iteration with rollouts below it. Name a folder of results/<name>.")
    evaluation = (sampled / samples, evaluating / sampled) if sampled else (0.0, 0.0)
    return Rate(iterations, tokens / rows, training / tokens, *evaluation)


def finished_iterations(results: Path) -> list[IterationFolder]:
    """Return the finished iterations below a folder of results, by path."""
    named = map(IterationFolder.at, [results, *results.glob("**/iteration_*")])
    found = [folder for folder in named if folder and folder.table("summarize").is_file()]
    return sorted(found, key=lambda folder: folder.path)


def rows_and_tokens(folder: Path, tables: Iterable[str]) -> tuple[int, int]:
    """Return the rows of an iteration's tables, and the tokens of their responses."""
    import polars as pl

    lengths = pl.col("response_tokens").list.len().sum()
    found = [
        pl.scan_parquet(folder / name).select(pl.len(), lengths).collect().row(0)
        for name in tables
        if (folder / name).is_file()
    ]
    return sum(rows for rows, _ in found), sum(tokens or 0 for _, tokens in found)
