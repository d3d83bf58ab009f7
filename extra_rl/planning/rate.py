"""Seconds from what has been measured: a rate that the user gives, or the records of finished iterations.

Nothing here is assumed about a device. Scaled are the wall seconds of every stage, by tokens: so loading a model, which
takes the same time however many tokens follow, is scaled too, and a plan of a much larger batch comes out too slow.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from extra_rl.errors import InputError
from extra_rl.results import IterationFolder, RunFolder

EVALUATION, ROLLOUTS = "evaluate", ("generate.parquet", "regenerate.parquet")


@dataclass(frozen=True)
class Measured:
    """Means over finished iterations, and over their evaluations.

    Args:
        iterations: how many were measured.
        rows, tokens: rollouts of one, and tokens of their responses.
        seconds: stage (as its file is named) -> wall seconds of one run.
        flop: analytic compute of one (`extra_rl.run.compute`); 0 where that is not known.
        evaluation_rows, evaluation_tokens, evaluation_wall: samples of one evaluation, tokens of their responses, and
            wall seconds; 0 where none was measured.
    """

    iterations: int
    rows: float
    tokens: float
    seconds: dict[str, float]
    flop: float
    evaluation_rows: float = 0.0
    evaluation_tokens: float = 0.0
    evaluation_wall: float = 0.0

    def iteration_seconds(self, tokens: float) -> dict[str, float]:
        """stage -> seconds of an iteration with `tokens` of responses."""
        return {stage: seconds * tokens / self.tokens for stage, seconds in self.seconds.items()}

    def evaluation_seconds(self, tokens: float) -> float:
        """Of an evaluation with `tokens` of responses; 0 where none was measured."""
        return self.evaluation_wall * tokens / self.evaluation_tokens if self.evaluation_tokens else 0.0

    @property
    def evaluation_mean(self) -> float:
        """Tokens of a response in evaluation."""
        return self.evaluation_tokens / self.evaluation_rows if self.evaluation_rows else 0.0


def measured(results: Path, arms: Iterable[str]) -> dict[str, Measured]:
    """arm -> what its finished iterations took, or those of all arms there for an arm that has none.

    results: folder of a run, an arm, a seed, or one iteration. InputError where no iteration that sampled anything is
    finished below it.
    """
    named = map(IterationFolder.at, [results, *results.glob("**/iteration_*")])
    folders = sorted(folder.path for folder in named if folder and folder.table("summarize").is_file())
    by_arm: dict[str, list[Path]] = {}
    for folder in folders:
        by_arm.setdefault(RunFolder(folder.resolve().parent).arm, []).append(folder)
    whole = _means(folders)
    if whole is None:
        raise InputError(f"{results}: no finished iteration with rollouts below it. Name a folder of results/<name>.")
    return {arm: _means(by_arm.get(arm, [])) or whole for arm in arms}


def _means(folders: list[Path]) -> Measured | None:
    """None where no iteration has rollouts."""
    from extra_rl.run.records import seconds_of_iteration

    iterations = [(folder, found) for folder in folders if (found := _sum(folder, ROLLOUTS))[1]]
    if not iterations:
        return None
    taken = [seconds_of_iteration(folder) for folder, _ in iterations]
    number = len(iterations)
    evaluated = [
        (*_sum(folder, [f"{EVALUATION}.parquet"]), seconds[EVALUATION])
        for (folder, _), seconds in zip(iterations, taken, strict=True)
        if EVALUATION in seconds
    ]
    stages = dict.fromkeys(stage for seconds in taken for stage in seconds if stage != EVALUATION)
    return Measured(
        number,
        sum(rows for _, (rows, _) in iterations) / number,
        sum(tokens for _, (_, tokens) in iterations) / number,
        {stage: sum(seconds.get(stage, 0.0) for seconds in taken) / number for stage in stages},
        _flop([folder for folder, _ in iterations]),
        *(sum(column) / len(evaluated) for column in zip(*evaluated, strict=True)),
    )


def _sum(folder: Path, tables: Iterable[str]) -> tuple[int, int]:
    """Rows of an iteration's tables, and tokens of their responses."""
    import polars as pl

    lengths = pl.col("response_tokens").list.len().sum()
    found = [
        pl.scan_parquet(folder / name).select(pl.len(), lengths).collect().row(0)
        for name in tables
        if (folder / name).is_file()
    ]
    return sum(rows for rows, _ in found), sum(tokens or 0 for _, tokens in found)


def _flop(folders: list[Path]) -> float:
    """Mean compute of iterations; 0 where that of one is not known."""
    import polars as pl

    found = [pl.read_parquet(folder / "summarize.parquet")["compute"].item() for folder in folders]
    return 0.0 if None in found else sum(found) / len(found)
