"""Figures of an evaluation: pass@k, maj@k, lengths and rates with intervals, and their table for the terminal.

A figure is a mean over problems, the row `mean` a mean over benchmarks (docs/evaluation.md). Samples that could not be
judged (`UNJUDGED`) are not part of pass@k, maj@k and the no-answer rate, and are counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from extra_rl.algorithms.majority import NO_VOTE, RIGHT, majority_at_each_k
from extra_rl.algorithms.pass_at_k import bootstrap_means, pass_at_each_k
from extra_rl.seeding import generator
from extra_rl.tables import contracts
from extra_rl.verdict import UNJUDGED, Verdict
from mathjudge.normalise import clean, squash
from mathjudge.numbers import read_number

Floats = npt.NDArray[np.float64]

MEAN = "mean"
NOT_ANSWERED = (Verdict.NO_ANSWER.value, Verdict.TRUNCATED.value)
RESAMPLES = 2000
MAX_CHARS = 300
"""A longer answer is compared as written: model text is untrusted, and normalising long text is slow."""


@dataclass(frozen=True)
class _Benchmark:
    """Values of each problem and figure (NaN: not counted), the figures' resampled means, and counts of samples."""

    values_PM: Floats
    means_RM: Floats
    samples_P: npt.NDArray[np.int64]
    excluded: int


def figures(samples: pl.DataFrame) -> pl.DataFrame:
    """Return EvaluationFigures of a table EvaluationSamples. Intervals and maj@k use fixed seeds."""
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
        c=(pl.col("verdict") == Verdict.RIGHT).sum().cast(pl.Int64),
        samples=pl.len().cast(pl.Int64),
        length=pl.col("response_tokens").list.len().mean(),
        truncated=100 * (pl.col("finish_reason") == "length").mean(),
        no_answer=100 * pl.col("verdict").filter(judged).is_in(NOT_ANSWERED).mean(),
        right=(pl.col("verdict") == Verdict.RIGHT).filter(judged).sort_by(pl.col("sample_index").filter(judged)),
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
    """Return (P, k_max) maj@k; NaN where a problem has fewer than k judged samples."""
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
    """Return a row per figure, for one benchmark or the mean over several; none where a benchmark has no problem."""
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


def answer_key(text: str) -> str:
    """Return a key that spellings of one answer share: the exact value of a plain number, else normalised text."""
    if len(text) > MAX_CHARS:
        return text
    cleaned = clean(text)
    number = read_number(cleaned)
    return str(number.value) if number else squash(cleaned)


def votes_of(right: Sequence[bool], answers: Sequence[str | None], keys: dict[str, str]) -> npt.NDArray[np.int64]:
    """Return (N,) the votes of one problem's samples, as `extra_rl.algorithms.majority` counts them.

    Args:
        right: judged correct, so these are one answer by the verifier's equality.
        answers: as extracted; None casts no vote. Incorrect answers are equal if their `answer_key` is.
        keys: cache of `answer_key` by text, extended here.
    """
    numbers: dict[str, int] = {}
    votes = np.full(len(answers), NO_VOTE, dtype=np.int64)
    for i, (is_right, answer) in enumerate(zip(right, answers, strict=True)):
        if is_right:
            votes[i] = RIGHT
        elif answer is not None:
            key = keys.get(answer)
            if key is None:
                key = keys[answer] = answer_key(answer)
            votes[i] = numbers.setdefault(key, len(numbers) + 1)
    return votes


def table_lines(figures: pl.DataFrame) -> list[str]:
    """Return one line per benchmark, the mean last, each rate in percent with its 95 % interval."""
    k_max = max(figures["k"].to_list())
    columns = [("pass_at_k", k) for k in sorted({1, k_max})] + [("maj_at_k", k_max)]
    titles = [f"{metric.partition('_')[0]}@{k}" for metric, k in columns]
    header = f"{'benchmark':<16}{'problems':>9}" + "".join(f"{title:>22}" for title in titles)
    lines = [header + f"{'tokens':>9}{'cut off':>9}{'no answer':>11}"]
    for name in figures["benchmark"].unique(maintain_order=True).to_list():
        part = figures.filter(pl.col("benchmark") == name)
        found = {(row["metric"], row["k"]): row for row in part.iter_rows(named=True)}
        cells = "".join(f"{_interval(found.get(column)):>22}" for column in columns)
        length, cut, none = (_plain(found.get((metric, 0))) for metric in ("mean_length", "truncated", "no_answer"))
        lines.append(f"{name:<16}{max(part['problems'].to_list()):>9}{cells}{length:>9}{cut:>9}{none:>11}")
    excluded = max(figures.filter(pl.col("benchmark") == MEAN)["excluded"].to_list())
    if excluded:
        lines.append(
            f"WARNING: {excluded} samples could not be judged and are left out: the reference answer cannot be parsed, "
            "or the verifier failed (verdicts gold_unparseable and error in evaluate.parquet)."
        )
    return lines


def _interval(row: Mapping[str, Any] | None) -> str:
    return f"{row['value']:.1f} [{row['low']:.1f}, {row['high']:.1f}]" if row else "-"


def _plain(row: Mapping[str, Any] | None) -> str:
    return f"{row['value']:.1f}" if row else "-"
