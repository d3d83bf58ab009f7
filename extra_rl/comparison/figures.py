"""pass@k of every problem of a policy, and the means over a benchmark."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import polars as pl

from extra_rl.algorithms.pass_at_k import pass_at_k_each
from extra_rl.comparison.names import Policy
from extra_rl.errors import ConfigError
from extra_rl.seeding import generator

Floats = npt.NDArray[np.float64]

UNJUDGED = ["gold_unparseable", "error"]


@dataclass(frozen=True)
class Scores:
    """What a policy did on one benchmark.

    problems: their ids, P of them. values_PK: pass@k of each in percent for every k; NaN where fewer than max(ks)
    samples were judged. samples: of a problem, the most; excluded: that could not be judged.
    """

    problems: tuple[str, ...]
    values_PK: Floats
    samples: int
    excluded: int

    def counted(self) -> Floats:
        """The rows of `values_PK` that are there."""
        return np.asarray(self.values_PK[np.isfinite(self.values_PK[:, 0])])

    def means(self) -> Floats:
        """(K,) percent."""
        return np.array([column.mean() for column in np.ascontiguousarray(self.counted().T)])


def scores_of(samples: pl.DataFrame, ks: Sequence[int]) -> dict[str, Scores]:
    """Benchmark -> scores, from a table of verdicts. Samples that could not be judged leave n, and are counted.

    Raises ConfigError where no problem of a benchmark has enough judged samples for the largest k.
    """
    unjudged = pl.col("verdict").is_in(UNJUDGED)
    counts = samples.group_by("benchmark", "problem_id", maintain_order=True).agg(
        n=(~unjudged).sum(), c=(pl.col("verdict") == "right").sum(), excluded=unjudged.sum()
    )
    result = {}
    for (benchmark,), problems in counts.group_by("benchmark", maintain_order=True):
        n_P, c_P = problems["n"].to_numpy(), problems["c"].to_numpy()
        usable_P = n_P >= max(ks)
        if not usable_P.any():
            raise ConfigError(
                f"benchmark {benchmark}: no problem has {max(ks)} judged samples; lower compare.ks or raise "
                "evaluate.samples."
            )
        values_PK = np.full((len(problems), len(ks)), np.nan)
        values_PK[usable_P] = 100 * _each(n_P[usable_P], c_P[usable_P], ks)
        result[str(benchmark)] = Scores(
            tuple(problems["problem_id"]), values_PK, int(n_P.max()), int(problems["excluded"].sum())
        )
    return result


def _each(n_P: npt.NDArray[np.integer], c_P: npt.NDArray[np.integer], ks: Sequence[int]) -> Floats:
    """(P, K) in 0 .. 1; every pair (n, c) is computed once."""
    pairs, place_P = np.unique(np.stack([n_P, c_P], axis=1), axis=0, return_inverse=True)
    return np.stack([pass_at_k_each(pairs[:, 0], pairs[:, 1], k) for k in ks], axis=1)[place_P.reshape(-1)]


def rows(
    policy: Policy, scores: Mapping[str, Scores], ks: Sequence[int], resamples: int
) -> Iterator[dict[str, object]]:
    """Rows of contracts.Comparison: means, and 95 % bootstrap intervals over problems."""
    for benchmark, found in scores.items():
        counted_PK = found.counted()
        for place, k in enumerate(ks):
            values_P = np.ascontiguousarray(counted_PK[:, place])
            means_R = values_P[_draws(benchmark, k, len(values_P), resamples)].mean(axis=1)
            low, high = np.quantile(means_R, [0.025, 0.975])
            yield {
                "policy": policy.folder,
                "seed": policy.seed,
                "benchmark": benchmark,
                "k": k,
                "pass_at_k": values_P.mean(),
                "low": low,
                "high": high,
                "problems": len(values_P),
                "samples": found.samples,
                "excluded": found.excluded,
            }


@lru_cache(maxsize=32)
def _draws(benchmark: str, k: int, problems: int, resamples: int) -> npt.NDArray[np.int64]:
    """(R, P): the draws of a bootstrap over problems, the same for every policy, made once."""
    return generator(0, "compare", benchmark, k).integers(problems, size=(resamples, problems))
