"""Intervals over problems, for runs with one seed: they show how far the choice of problems moves a difference.

With one seed nothing is known about the variation between seeds, so these intervals test nothing; `compare` computes
intervals over seeds where there are several.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from extra_rl.algorithms.pass_at_k import bootstrap_means
from extra_rl.comparison.figures import Scores, scores_of
from extra_rl.errors import ConfigError
from extra_rl.report.collect import final_samples
from extra_rl.report.sources import Sources
from extra_rl.seeding import generator

RESAMPLES = 2000

Interval = tuple[float, float]


def difference_intervals(sources: Sources, ks: Sequence[int]) -> dict[tuple[str, str, int], Interval]:
    """Return (folder of an arm, folder of the base arm of its regime, k) -> 95 % interval, percentage points.

    Paired: both policies are resampled with the same problems, within each benchmark; the mean is over benchmarks. {}
    with several seeds. Pairs with other problems, and k beyond the samples, are left out.
    """
    if len(sources.seeds) != 1:
        return {}
    scores = {}
    for (folder, _), samples in final_samples(sources):
        usable = [k for k in ks if k <= int(samples.group_by("problem_id").len()["len"].max() or 0)]  # type: ignore[arg-type]
        scores[folder] = (usable, _scores(samples, usable))
    base = sources.arms[0]
    found = {}
    for cell in sources.cells:
        against = f"{cell.regime}-{base}" if cell.regime else base
        if cell.arm == base or cell.folder not in scores or against not in scores:
            continue
        (usable, mine), (_, other) = scores[cell.folder], scores[against]
        for place, k in enumerate(usable):
            if ends := interval_of(mine, other, place):
                found[cell.folder, against, k] = ends
    return found


def interval_of(mine: Mapping[str, Scores], other: Mapping[str, Scores], place: int) -> Interval | None:
    """Return the interval of mine - other for the k at `place`; None where they were evaluated on other problems."""
    means = []
    for benchmark, scores in mine.items():
        if benchmark not in other or other[benchmark].problems != scores.problems:
            return None
        difference_P = scores.values_PK[:, place] - other[benchmark].values_PK[:, place]
        difference_P = difference_P[np.isfinite(difference_P)]
        if not len(difference_P):
            return None
        rng = generator(0, "report", "problems", benchmark)
        means.append(bootstrap_means(difference_P[:, None], rng, RESAMPLES)[:, 0])
    if not means:
        return None
    low, high = np.quantile(np.mean(means, axis=0), [0.025, 0.975])
    return float(low), float(high)


def _scores(samples: pl.DataFrame, ks: Sequence[int]) -> Mapping[str, Scores]:
    try:
        return scores_of(samples, ks) if ks else {}
    except ConfigError:
        return {}  # no problem has enough judged samples for the largest k
