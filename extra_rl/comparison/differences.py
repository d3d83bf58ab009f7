"""Differences between arms over seeds, with their intervals and p values (docs/statistics.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from extra_rl.algorithms.pass_at_k import bootstrap_means
from extra_rl.comparison.evaluated import MEAN, Evaluated, means_of, refuse_other_problems
from extra_rl.config.comparisons import WARM_START, Pair
from extra_rl.seeding import generator
from extra_rl.statistics.intervals import (
    blocked_t_interval,
    degrees_of_freedom,
    drawn_seeds,
    mean_and_sd,
    two_level_interval,
)
from extra_rl.statistics.significance import holm, sign_flip_p

Floats = npt.NDArray[np.float64]

EXACT_DIGITS = 9
"""Decimals of a difference in percentage points, so that rounding errors of equal figures give exactly 0."""

LEVEL = 0.05
"""Holm-adjusted p below which a difference can be significant."""


def all_pairs(named: Sequence[Pair], arms: Sequence[str]) -> list[Pair]:
    """Return the named pairs, then every other arm against the first, then every arm against its warm start."""
    wanted = [(arm, base) for base in (*arms[:1], WARM_START) for arm in arms if arm != base]
    have = {(pair.arm, pair.base) for pair in named}
    return [*named, *(Pair(arm, base, False) for arm, base in wanted if (arm, base) not in have)]


def difference_rows(
    regime: Evaluated, pairs: Sequence[Pair], ks: Sequence[int], resamples: int
) -> Iterator[dict[str, Any]]:
    """Yield rows of contracts.Differences without p, which `with_p` adds; none for a pair that lacks an arm here.

    Every row contains `differences`, (S,): arm - base of each seed, in percentage points.

    Args:
        regime: its evaluated policies.
        pairs: the comparisons.
        ks: k of pass@k, as in the scores.
        resamples: of the bootstrap.
    """
    resampled = resampled_means(regime, resamples)
    for pair in pairs:
        seeds = regime.seeds(pair)
        if not seeds:
            continue
        refuse_other_problems(regime, pair, seeds)
        arm, base = ([means_of(regime.scores(side, seed)) for seed in seeds] for side in (pair.arm, pair.base))
        blocks = [regime.start_of[seed] for seed in seeds]
        drawn_RS = drawn_seeds(blocks, generator(0, "compare", "seeds"), resamples)
        benchmarks = [name for name in arm[0] if name != MEAN]
        for benchmark in arm[0]:
            drawn_from = benchmarks if benchmark == MEAN else [benchmark]
            for place, k in enumerate(ks):
                differences_S = np.array(
                    [a[benchmark][place] - b[benchmark][place] for a, b in zip(arm, base, strict=True)]
                ).round(EXACT_DIGITS)
                mean, sd = mean_and_sd(differences_S)
                t_low, t_high = blocked_t_interval(differences_S, blocks) or (None, None)
                low = high = None
                if degrees_of_freedom(blocks):
                    low, high = two_level_interval(
                        np.stack([resampled(pair.arm, tuple(seeds), name)[..., place] for name in drawn_from]),
                        np.stack([resampled(pair.base, tuple(seeds), name)[..., place] for name in drawn_from]),
                        drawn_RS,
                    )
                yield {
                    "regime": regime.regime,
                    "regime_value": regime.value,
                    "arm": pair.arm,
                    "base": pair.base,
                    "named": pair.named,
                    "benchmark": benchmark,
                    "k": k,
                    "difference": mean,
                    "sd": sd,
                    "t_low": t_low,
                    "t_high": t_high,
                    "bootstrap_low": low,
                    "bootstrap_high": high,
                    "seeds": len(seeds),
                    "blocks": len(set(blocks)),
                    "differences": differences_S,
                }


def resampled_means(regime: Evaluated, resamples: int) -> Callable[[str, tuple[int, ...], str], Floats]:
    """Return a cached function (arm, seeds, benchmark) -> (R, S, K) means over resampled problems.

    The resampled problems are the same for every policy.
    """

    @cache
    def means(arm: str, seeds: tuple[int, ...], benchmark: str) -> Floats:
        values = [regime.scores(arm, seed)[benchmark].values_PK for seed in seeds]
        rng = generator(0, "compare", "problems", benchmark)
        means_RM = bootstrap_means(np.concatenate(values, axis=1), rng, resamples)
        return means_RM.reshape(resamples, len(seeds), -1)

    return means


def with_p(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows with `p` (None for one seed) and `p_holm` instead of `differences`.

    The family of Holm's correction is the named pairs, in every regime and for every k, on the mean over benchmarks.
    """
    done = [{**row, "p": None, "p_holm": None} for row in rows]
    for seeds in sorted({row["seeds"] for row in done} - {1}):
        same = [row for row in done if row["seeds"] == seeds]
        for row, p in zip(same, sign_flip_p(np.stack([row["differences"] for row in same])), strict=True):
            row["p"] = float(p)
    family = [row for row in done if row["named"] and row["benchmark"] == MEAN and row["p"] is not None]
    for row, p in zip(family, holm(np.array([row["p"] for row in family])), strict=True):
        row["p_holm"] = float(p)
    return [{key: value for key, value in row.items() if key != "differences"} for row in done]


def significant(row: Mapping[str, Any]) -> bool:
    """Return whether a difference is significant: Holm p below 0.05, and both intervals on the same side of zero."""
    ends = [row[key] for key in ("t_low", "t_high", "bootstrap_low", "bootstrap_high")]
    if row["p_holm"] is None or row["p_holm"] >= LEVEL or None in ends:
        return False
    return all(end > 0 for end in ends) or all(end < 0 for end in ends)
