"""From the samples of an evaluation to its figures: pass@k, maj@k, lengths and rates, with intervals.

A figure is a mean over problems, the mean row a mean over benchmarks (docs/evaluation.md). Samples that could not be
judged (gold unparseable, verifier error) leave pass@k, maj@k and the no-answer rate, and are counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from extra_rl.algorithms.majority import majority_at_each_k
from extra_rl.algorithms.pass_at_k import bootstrap_means, pass_at_each_k
from extra_rl.evaluation.votes import votes_of
from extra_rl.seeding import generator
from extra_rl.tables import contracts

Floats = npt.NDArray[np.float64]

MEAN = "mean"
UNJUDGED = ("gold_unparseable", "error")
NOT_ANSWERED = ("no_answer", "truncated")
RESAMPLES = 2000


@dataclass(frozen=True)
class _Benchmark:
    """Values per problem and figure (NaN: the problem does not count), the figures' resampled means, and counts."""

    values_PM: Floats
    means_RM: Floats
    samples_P: npt.NDArray[np.int64]
    excluded: int


def figures(samples: pl.DataFrame) -> pl.DataFrame:
    """EvaluationFigures of a table EvaluationSamples; the intervals and maj@k draw from seeds of their own."""
    k_max = int(samples.group_by("problem_id").len()["len"].max() or 1)  # type: ignore[arg-type]
    names = [
        *(("pass_at_k", k) for k in range(1, k_max + 1)),
        *(("maj_at_k", k) for k in range(1, k_max + 1)),
        *((metric, 0) for metric in ("mean_length", "truncated", "no_answer")),
    ]
    found = {str(name): _benchmark(part, k_max) for (name,), part in samples.group_by("benchmark", maintain_order=True)}
    rows = [row for name, one in found.items() for row in _rows(name, names, [one])]
    rows += _rows(MEAN, names, list(found.values()))
    return contracts.EvaluationFigures.cast(pl.DataFrame(rows))


def _benchmark(samples: pl.DataFrame, k_max: int) -> _Benchmark:
    judged = ~pl.col("verdict").is_in(UNJUDGED)
    problems = samples.group_by("problem_id", maintain_order=True).agg(
        n=judged.sum().cast(pl.Int64),
        c=(pl.col("verdict") == "right").sum().cast(pl.Int64),
        samples=pl.len().cast(pl.Int64),
        length=pl.col("response_tokens").list.len().mean(),
        truncated=100 * (pl.col("finish_reason") == "length").mean(),
        no_answer=100 * pl.col("verdict").filter(judged).is_in(NOT_ANSWERED).mean(),
        right=(pl.col("verdict") == "right").filter(judged).sort_by(pl.col("sample_index").filter(judged)),
        answers=pl.col("extracted").filter(judged).sort_by(pl.col("sample_index").filter(judged)),
    )
    n_P, c_P = problems["n"].to_numpy(), problems["c"].to_numpy()
    rates = [
        problems[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in ("length", "truncated", "no_answer")
    ]
    values_PM = np.column_stack([100 * pass_at_each_k(n_P, c_P, k_max), 100 * _majority(problems, k_max), *rates])
    rng = generator(0, "evaluate_figures", str(samples["benchmark"][0]))
    means_RM = bootstrap_means(values_PM, rng, RESAMPLES)
    return _Benchmark(
        values_PM, means_RM, problems["samples"].to_numpy(), int((problems["samples"] - problems["n"]).sum())
    )


def _majority(problems: pl.DataFrame, k_max: int) -> Floats:
    """(P, k_max) maj@k; NaN where a problem has fewer than k judged samples."""
    keys: dict[str, str] = {}
    votes = [votes_of(right, answers, keys) for right, answers in problems.select("right", "answers").iter_rows()]
    share_PK = np.full((len(problems), k_max), np.nan)
    n_P = problems["n"].to_numpy()
    for n in sorted(set(n_P.tolist()) - {0}):
        rows = np.flatnonzero(n_P == n)
        votes_PN = np.stack([votes[row] for row in rows])
        share_PK[rows, :n] = majority_at_each_k(votes_PN, generator(0, "majority", n))
    return share_PK


def _rows(name: str, names: Sequence[tuple[str, int]], parts: Sequence[_Benchmark]) -> list[dict[str, Any]]:
    """A row a figure, for one benchmark or for the mean over several; none where a benchmark has no problem for it."""
    rows = []
    for column, (metric, k) in enumerate(names):
        counted = [np.isfinite(part.values_PM[:, column]) for part in parts]
        if not all(rows_P.any() for rows_P in counted):
            continue
        value = np.mean([part.values_PM[mask, column].mean() for part, mask in zip(parts, counted, strict=True)])
        low, high = np.nanquantile(np.mean([part.means_RM[:, column] for part in parts], axis=0), [0.025, 0.975])
        rows.append(
            {
                "benchmark": name,
                "metric": metric,
                "k": k,
                "value": value,
                "low": low,
                "high": high,
                "problems": sum(int(mask.sum()) for mask in counted),
                "samples": sum(int(part.samples_P[mask].sum()) for part, mask in zip(parts, counted, strict=True)),
                "excluded": sum(part.excluded for part in parts),
            }
        )
    return rows
