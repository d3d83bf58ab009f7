"""Evaluated policies, pass@k of each of their problems, and the means over a benchmark."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from extra_rl.algorithms.pass_at_k import pass_at_k_each
from extra_rl.config.comparisons import WARM_START
from extra_rl.errors import ConfigError
from extra_rl.seeding import generator
from extra_rl.verdict import UNJUDGED, Verdict

Floats = npt.NDArray[np.float64]


class Policy(NamedTuple):
    """An evaluated policy.

    folder: its name in the results. regime: "" without regimes. arm, seed: `warm_start` and -1 for an initial policy.
    number: which initial policy; 0 for an arm.
    """

    folder: str
    regime: str
    arm: str
    seed: int
    number: int = 0


def policy_of(label: str, regimes: Iterable[str]) -> Policy:
    """Return the policy of a label `warm_start`, `warm_start_<number>` or `<folder>/s<seed>`.

    With regimes a folder is `<regime>-<arm>`; names of regimes have no hyphen. Raises ConfigError for another label.
    """
    folder, _, seed = label.partition("/s")
    if not seed:
        number = re.fullmatch(rf"{WARM_START}(?:_(\d+))?", folder)
        if number is None:
            raise ConfigError(f"evaluate:{label}: expected {WARM_START}, {WARM_START}_<number> or <arm>/s<seed>.")
        return Policy(folder, "", WARM_START, -1, int(number[1] or 0))
    regime, _, arm = folder.partition("-")
    if not seed.isdigit() or (regimes and (regime not in regimes or not arm)):
        raise ConfigError(f"evaluate:{label}: no arm and seed of this configuration; regimes: {', '.join(regimes)}.")
    return Policy(folder, regime, arm, int(seed)) if regimes else Policy(folder, "", folder, int(seed))


@dataclass(frozen=True)
class Scores:
    """Results of a policy on one benchmark.

    problems: P ids. values_PK: pass@k in percent of each problem for every k; NaN where fewer than max(ks) samples were
    judged. samples: judged samples of a problem, the maximum. excluded: samples that could not be judged; None: not
    known.
    """

    problems: tuple[str, ...]
    values_PK: Floats
    samples: int
    excluded: int | None

    def counted(self) -> Floats:
        """Return the rows of `values_PK` with enough judged samples."""
        return np.asarray(self.values_PK[np.isfinite(self.values_PK[:, 0])])

    def means(self) -> Floats:
        """Return (K,) pass@k in percent, mean over the counted problems."""
        return np.array([column.mean() for column in np.ascontiguousarray(self.counted().T)])


def counts_of(samples: pl.DataFrame) -> pl.DataFrame:
    """Return one row per problem, in the order of a table of verdicts: benchmark, problem_id, n, c, excluded.

    n: judged samples. c: correct ones. excluded: samples that could not be judged.
    """
    unjudged = pl.col("verdict").is_in(UNJUDGED)
    return samples.group_by("benchmark", "problem_id", maintain_order=True).agg(
        n=(~unjudged).sum(), c=(pl.col("verdict") == Verdict.RIGHT).sum(), excluded=unjudged.sum()
    )


def scores_of(samples: pl.DataFrame, ks: Sequence[int]) -> dict[str, Scores]:
    """Return benchmark -> scores, from a table of verdicts. Samples that could not be judged are not part of n.

    Raises ConfigError where no problem of a benchmark has enough judged samples for the largest k.
    """
    return scores_from(counts_of(samples), ks)


def scores_from(counts: pl.DataFrame, ks: Sequence[int]) -> dict[str, Scores]:
    """Return benchmark -> scores, from the rows of `counts_of`; `excluded` may be missing. Raises as `scores_of`."""
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
        excluded = int(problems["excluded"].sum()) if "excluded" in problems.columns else None
        result[str(benchmark)] = Scores(tuple(problems["problem_id"]), values_PK, int(n_P.max()), excluded)
    return result


def _each(n_P: npt.NDArray[np.integer], c_P: npt.NDArray[np.integer], ks: Sequence[int]) -> Floats:
    """Return (P, K) pass@k in 0 .. 1; each distinct pair (n, c) is computed once."""
    pairs, place_P = np.unique(np.stack([n_P, c_P], axis=1), axis=0, return_inverse=True)
    return np.stack([pass_at_k_each(pairs[:, 0], pairs[:, 1], k) for k in ks], axis=1)[place_P.reshape(-1)]


def rows(
    policy: Policy, scores: Mapping[str, Scores], ks: Sequence[int], resamples: int
) -> Iterator[dict[str, object]]:
    """Yield rows of contracts.Comparison: means, and 95 % bootstrap intervals over problems.

    Args:
        policy: that was evaluated.
        scores: benchmark -> its scores.
        ks: k of pass@k, as in the scores.
        resamples: of the bootstrap.
    """
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
    """Return (R, P) indices of resampled problems, cached because they are the same for every policy."""
    return generator(0, "compare", benchmark, k).integers(problems, size=(resamples, problems))
