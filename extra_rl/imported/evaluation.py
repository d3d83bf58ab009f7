"""Imported evaluations: judged rollouts of held-out problems as the tables that `evaluate` writes for a policy."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from extra_rl.evaluation.figures import figures
from extra_rl.imported.groups import Cell
from extra_rl.imported.tables import Writer
from extra_rl.results import RunFolder
from extra_rl.tables import contracts, read_table


def samples_per_problem(cells: list[Cell]) -> int:
    """The smallest number of rollouts of a problem in the last iterations: the largest k of pass@k."""
    counts = [
        pl.Series([row.problem_id for row in cell.iterations[-1]]).value_counts()["count"].min() for cell in cells
    ]
    return min(int(count) for count in counts)  # type: ignore[arg-type]


def write_evaluations(writer: Writer, results: Path, cells: list[Cell]) -> dict[str, Path]:
    """Write `evaluate` and `evaluate_figures` of the last iteration of every arm and seed; label -> samples' file."""
    train = read_table(results / "prepare" / "train.parquet", contracts.Problems).select("problem_id", "benchmark")
    made = {}
    for cell in cells:
        number = len(cell.iterations) - 1
        folder = RunFolder.of(results, cell.arm, cell.seed).iteration(number)
        files = {"generate": folder / "generate.parquet", "verify": folder / "verify_generate.parquet"}
        rollouts = read_table(files["generate"], contracts.Rollouts)
        rows = rollouts.join(
            read_table(files["verify"], contracts.Verdicts), on="rollout_id", maintain_order="left"
        ).join(train, on="problem_id", maintain_order="left")
        rows = rows.with_columns(sample_index=pl.int_range(pl.len()).over("problem_id"))
        samples = contracts.EvaluationSamples.cast(rows.select(list(contracts.EvaluationSamples.columns())))
        footer = writer.provenance(cell.arm, cell.seed, number, **files)
        path = folder / "evaluate.parquet"
        writer.write(samples, path, contracts.EvaluationSamples, footer)
        writer.write(figures(samples), folder / "evaluate_figures.parquet", contracts.EvaluationFigures, footer)
        made[cell.name] = path
    return made
