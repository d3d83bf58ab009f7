"""The evaluated policies of a finished experiment, by regime, arm and seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from extra_rl.comparison.figures import Policy, Scores
from extra_rl.config.comparisons import WARM_START, Pair
from extra_rl.errors import ConfigError

Floats = npt.NDArray[np.float64]

MEAN = "mean"
"""Name of the row that averages all benchmarks with equal weight."""


@dataclass(frozen=True)
class Evaluated:
    """One regime of a finished experiment.

    value: the regime's number, None without regimes. arms: name -> seed -> benchmark -> scores. starts: warm start ->
    benchmark -> scores. start_of: seed -> its warm start.
    """

    regime: str
    value: float | None
    arms: Mapping[str, Mapping[int, Mapping[str, Scores]]]
    starts: Mapping[int, Mapping[str, Scores]]
    start_of: Mapping[int, int]

    def scores(self, arm: str, seed: int) -> Mapping[str, Scores]:
        """Return the scores of an arm's final policy, or of the seed's warm start; empty where it was not evaluated."""
        if arm == WARM_START:
            return self.starts.get(self.start_of[seed], {})
        return self.arms.get(arm, {}).get(seed, {})

    def seeds(self, pair: Pair) -> list[int]:
        """Return the seeds that both arms have."""
        return [seed for seed in self.start_of if self.scores(pair.arm, seed) and self.scores(pair.base, seed)]


def by_regime(
    evaluated: Mapping[Policy, Mapping[str, Scores]], regimes: Mapping[str, float], start_of: Mapping[int, int]
) -> list[Evaluated]:
    """Return the policies of each regime, ordered by the regimes' numbers; warm starts belong to all regimes."""
    starts = {policy.number: scores for policy, scores in evaluated.items() if policy.arm == WARM_START}
    found = []
    for regime in sorted(regimes, key=lambda name: regimes[name]) or [""]:
        arms: dict[str, dict[int, Mapping[str, Scores]]] = {}
        for policy, scores in evaluated.items():
            if policy.arm != WARM_START and policy.regime == regime:
                arms.setdefault(policy.arm, {})[policy.seed] = scores
        found.append(Evaluated(regime, regimes.get(regime), arms, starts, start_of))
    return found


def start_of(seeds: Sequence[int], warm_starts: Sequence[int]) -> Mapping[int, int]:
    """Return seed -> the warm start of its arms: warm starts are assigned to seeds in turn."""
    return {seed: warm_starts[place % len(warm_starts)] for place, seed in enumerate(seeds)}


def means_of(scores: Mapping[str, Scores]) -> dict[str, Floats]:
    """Return benchmark -> (K,) percent, with their `mean` last; {} without scores."""
    means = {benchmark: found.means() for benchmark, found in scores.items()}
    return means | {MEAN: np.mean(list(means.values()), axis=0)} if means else {}


def seed_rows(regime: Evaluated, ks: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yield rows of contracts.SeedFigures: the figures of each seed that the differences compare."""
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
    """Raise ConfigError where policies to be compared were evaluated on different problems."""
    problems = [
        {benchmark: found.problems for benchmark, found in regime.scores(arm, seed).items()}
        for arm in (pair.arm, pair.base)
        for seed in seeds
    ]
    if any(other != problems[0] for other in problems[1:]):
        where = f" in the regime {regime.regime}" if regime.regime else ""
        raise ConfigError(
            f"{pair.arm} and {pair.base}{where} were evaluated on different problems, so they cannot be compared. "
            "Set `evaluate.split` once, at the top of the configuration."
        )
