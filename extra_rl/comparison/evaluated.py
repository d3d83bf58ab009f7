"""The evaluated policies of a finished experiment, by regime, arm and seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from extra_rl.comparison.figures import Scores
from extra_rl.comparison.names import Policy
from extra_rl.config.comparisons import WARM_START, Pair
from extra_rl.errors import ConfigError

Floats = npt.NDArray[np.float64]

MEAN = "mean"
"""Stands for all benchmarks, each of the same weight."""


@dataclass(frozen=True)
class Evaluated:
    """One regime of a finished experiment.

    arms: name -> seed -> benchmark -> scores. starts: warm start -> benchmark -> scores. start_of: seed -> its warm
    start. value: the regime's number, None without regimes.
    """

    regime: str
    value: float | None
    arms: Mapping[str, Mapping[int, Mapping[str, Scores]]]
    starts: Mapping[int, Mapping[str, Scores]]
    start_of: Mapping[int, int]

    def scores(self, arm: str, seed: int) -> Mapping[str, Scores]:
        """Of an arm's final policy, or of the warm start of the seed; empty where it is not there."""
        if arm == WARM_START:
            return self.starts.get(self.start_of[seed], {})
        return self.arms.get(arm, {}).get(seed, {})

    def seeds(self, pair: Pair) -> list[int]:
        """Those that both arms have."""
        return [seed for seed in self.start_of if self.scores(pair.arm, seed) and self.scores(pair.base, seed)]


def by_regime(
    evaluated: Mapping[Policy, Mapping[str, Scores]], regimes: Mapping[str, float], start_of: Mapping[int, int]
) -> list[Evaluated]:
    """The policies of each regime, by the regimes' numbers; the warm starts belong to all regimes."""
    starts = {policy.number: scores for policy, scores in evaluated.items() if policy.arm == WARM_START}
    found = []
    for regime in sorted(regimes, key=lambda name: regimes[name]) or [""]:
        arms: dict[str, dict[int, Mapping[str, Scores]]] = {}
        for policy, scores in evaluated.items():
            if policy.arm != WARM_START and policy.regime == regime:
                arms.setdefault(policy.arm, {})[policy.seed] = scores
        found.append(Evaluated(regime, regimes.get(regime), arms, starts, start_of))
    return found


def means_of(scores: Mapping[str, Scores]) -> dict[str, Floats]:
    """Benchmark -> (K,) percent, and `mean` over them last; nothing of no scores."""
    means = {benchmark: found.means() for benchmark, found in scores.items()}
    return means | {MEAN: np.mean(list(means.values()), axis=0)} if means else {}


def seed_rows(regime: Evaluated, ks: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Rows of contracts.SeedFigures: what the differences are made of."""
    for arm, of_seed in regime.arms.items():
        for seed, scores in of_seed.items():
            start = means_of(regime.scores(WARM_START, seed))
            for benchmark, means_K in means_of(scores).items():
                for place, k in enumerate(ks):
                    yield {
                        "regime": regime.regime,
                        "arm": arm,
                        "seed": seed,
                        "benchmark": benchmark,
                        "k": k,
                        "pass_at_k": means_K[place],
                        "warm_start": regime.start_of[seed],
                        "warm_start_pass_at_k": start[benchmark][place] if benchmark in start else None,
                    }


def refuse_other_problems(regime: Evaluated, pair: Pair, seeds: Sequence[int]) -> None:
    """ConfigError where policies that are to be compared were asked different problems."""
    asked = [
        {benchmark: found.problems for benchmark, found in regime.scores(arm, seed).items()}
        for arm in (pair.arm, pair.base)
        for seed in seeds
    ]
    if any(other != asked[0] for other in asked[1:]):
        where = f" in the regime {regime.regime}" if regime.regime else ""
        raise ConfigError(
            f"{pair.arm} and {pair.base}{where} were evaluated on different problems, so they cannot be compared. "
            "Set `evaluate.split` once, at the top of the configuration."
        )
