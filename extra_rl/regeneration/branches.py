"""Past branches: prefixes that were continued, with what was known at the choice and what became of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import polars as pl

from extra_rl.algorithms.logistic import Fit, fit
from extra_rl.algorithms.prefixes import RankRule
from extra_rl.errors import InputError
from extra_rl.regeneration.candidates import Candidate
from extra_rl.regeneration.continued import Outcome
from extra_rl.regeneration.settings import CalibrationConfig
from extra_rl.tables import contracts

FEATURES = ("mean_surprisal", "highest_surprisal", "remaining")


def features_of(candidates: Sequence[Candidate]) -> npt.NDArray[np.float64]:
    """`FEATURES` of each candidate, (C, 3).

    These are mean and highest surprisal of the prefix's tokens under the sampler, in nats, and L, the number of tokens
    of the parent after the cut. Raises InputError for a prefix without the sampler's logprobs.
    """
    rows = []
    for one in candidates:
        if one.prefix_logprobs is None or one.parent_length is None:
            raise InputError(
                f"prefix {one.prefix_id} has no logprobs of the sampler (an imported rollout), by which "
                "choose_prefixes.rank: calibrated estimates. Use another rank, or import the logprobs."
            )
        surprisal_T = -np.array(one.prefix_logprobs)
        rows.append([surprisal_T.mean(), surprisal_T.max(), one.parent_length - len(one.prefix_tokens)])
    return np.array(rows, np.float64).reshape(len(rows), len(FEATURES))


def with_outcomes(branches: pl.DataFrame, outcomes: Mapping[str, Outcome]) -> pl.DataFrame:
    """The branches with the outcomes that became known. outcomes: prefix_id -> outcome of its continuations."""
    new = pl.DataFrame(
        [(name, one.right, one.judged) for name, one in outcomes.items()],
        schema={"prefix_id": pl.String, "right": pl.Int64, "judged": pl.Int64},
        orient="row",
    )
    found = branches.join(new, on="prefix_id", how="left", maintain_order="left")
    return found.with_columns(successes=pl.coalesce("right", "successes"), tries=pl.coalesce("judged", "tries")).select(
        branches.columns
    )


def fit_of(branches: pl.DataFrame, config: CalibrationConfig) -> Fit | None:
    """The fit of all branches with an outcome; None before there are enough, or without a success or a failure."""
    known = branches.filter(pl.col("tries") > 0)
    right, judged = known["successes"].sum(), known["tries"].sum()
    if len(known) < config.min_branches or not 0 < right < judged:
        return None
    features_NF = known.select(FEATURES).to_numpy().astype(np.float64)
    return fit(features_NF, known["successes"].to_numpy(), known["tries"].to_numpy(), config.ridge)


def with_estimates(
    candidates: Sequence[Candidate], model: Fit | None, rule: RankRule
) -> tuple[list[Candidate], npt.NDArray[np.float64]]:
    """The candidates with their estimate q, and how much each is preferred, (C,); the highest is chosen first.

    `calibrated`: q / L, the expected successes per token. `calibrated_half`: -|q - 1/2|. Before the first fit (`model`
    None) there are no estimates. Then `calibrated` prefers the lowest mean surprisal, and `calibrated_half` the cut
    nearest to half of the parent.
    """
    features_CF = features_of(candidates)
    mean_C, remaining_C = features_CF[:, 0], features_CF[:, 2]
    lengths_C = np.array([len(one.prefix_tokens) for one in candidates], np.float64)
    if model is None:
        half_C = np.abs(lengths_C / (lengths_C + remaining_C) - 0.5)
        return list(candidates), -mean_C if rule == "calibrated" else -half_C
    q_C = model.probability(features_CF)
    estimated = [replace(one, estimate=q) for one, q in zip(candidates, q_C.tolist(), strict=True)]
    return estimated, q_C / remaining_C if rule == "calibrated" else -np.abs(q_C - 0.5)


def with_chosen(branches: pl.DataFrame, chosen: Sequence[Candidate], limit: int, iteration: int) -> pl.DataFrame:
    """The branches with an outcome, then the prefixes chosen now; the latest `limit` of them.

    Prefixes of the previous choice that still have no outcome were never sampled, or never judged: they are dropped.
    """
    features_CF = features_of(chosen)
    new = [
        {"prefix_id": one.prefix_id, "iteration": iteration, "successes": 0, "tries": 0, "estimate": one.estimate}
        | dict(zip(FEATURES, row, strict=True))
        for one, row in zip(chosen, features_CF.tolist(), strict=True)
    ]
    schema = contracts.PrefixBranches.create_empty().schema
    known = branches.filter(pl.col("tries") > 0)
    return contracts.PrefixBranches.cast(pl.concat([known, pl.DataFrame(new, schema=schema, strict=False)]).tail(limit))
