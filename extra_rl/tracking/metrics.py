"""From the tables of an iteration to named numbers; docs/metrics.md defines every name.

Pure functions: no file is read. A figure that the tables do not have (null, or not finite) is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

FROM_SUMMARY = {
    "reward/mean": "mean_reward",
    "reward/pass_rate": "pass_rate",
    "groups/fresh": "groups",
    "groups/solved": "all_correct",
    "groups/mixed": "mixed",
    "groups/unsolved": "all_incorrect",
    "groups/continued": "regenerated_groups",
    "groups/rescued": "rescued_groups",
    "groups/useful": "useful_groups",
    "groups/useful_per_1000_tokens": "useful_per_1000_tokens",
    "groups/useful_per_tflop": "useful_per_tflop",
    "groups/replayed": "replayed_groups",
    "groups/replayed_mixed": "replayed_mixed",
    "replay/pass_rate": "replayed_pass_rate",
    "replay/stored": "stored_trajectories",
    "rollouts/count": "rollouts",
    "rollouts/continuations": "regenerated_rollouts",
    "rollouts/replays": "replayed_rollouts",
    "rollouts/excluded": "excluded",
    "rollouts/truncated": "truncated",
    "rollouts/entropy": "mean_entropy",
    "rollouts/length": "mean_length",
    "prefixes/chosen": "prefixes_chosen",
    "verdicts/right": "verdict_right",
    "verdicts/wrong": "verdict_wrong",
    "verdicts/no_answer": "verdict_no_answer",
    "verdicts/truncated": "verdict_truncated",
    "verdicts/gold_unparseable": "verdict_gold_unparseable",
    "verdicts/timeout": "verdict_timeout",
    "verdicts/error": "verdict_error",
    "advantage/bonus_share": "bonus_share",
    "mismatch/mean": "mismatch_mean",
    "mismatch/p99": "mismatch_p99",
    "mismatch/max_ratio": "mismatch_max_ratio",
    "mismatch/kl": "mismatch_kl",
    "mismatch/importance_mean": "importance_mean",
    "mismatch/importance_max": "importance_max",
    "update/steps": "steps",
    "update/loss": "loss",
    "update/gradient_norm": "gradient_norm",
    "tokens/sampled": "sampled_tokens",
    "tokens/prefilled": "prefilled_tokens",
    "tokens/scored": "scored_tokens",
    "tokens/trained": "trained_tokens",
    "tokens/embedded": "embedded_tokens",
    "compute/flop": "compute",
    "compute/embedding_flop": "embedding_compute",
    "progress/tokens": "total_sampled_tokens",
    "progress/flop": "total_compute",
}
"""Metric -> column of `summarize`."""

OVER_STEPS = {
    "update/clipped_low": "clipped_low",
    "update/clipped_high": "clipped_high",
    "update/kl": "approx_kl",
    "update/kl_to_reference": "kl_to_reference",
    "update/entropy": "entropy",
}
"""Metric -> column of `update`, of which it is the mean over the steps, weighted by their loss tokens."""

OTHERS = (
    *("numbers/<name>", "progress/iteration", "rollouts/truncated_share", "update/learning_rate", "update/signal_rows"),
    *("tokens/generate", "tokens/regenerate", "seconds/total", "seconds/<stage>", "memory/peak"),
    *("evaluation/<benchmark>/<figure>", "evaluation/<benchmark>/<figure>_low", "evaluation/<benchmark>/<figure>_high"),
)
"""Further metrics; the parts in angle brackets are names of stages, benchmarks and figures."""

VOLATILE = ("seconds/", "memory/")
"""How the names of metrics begin that a repetition with the same result may change."""


def names() -> set[str]:
    """Every metric, as docs/metrics.md lists it."""
    return {*FROM_SUMMARY, *OVER_STEPS, *OTHERS}


def iteration_metrics(
    summary: Mapping[str, Any],
    steps: pl.DataFrame,
    sampled: Mapping[str, int],
    seconds: Mapping[str, float],
    memory_mb: Sequence[float],
) -> dict[str, float]:
    """Return the metrics of one iteration.

    Args:
        summary: its row of `contracts.IterationSummary`.
        steps: its `contracts.UpdateSteps`.
        sampled: `generate` and `regenerate` -> tokens sampled there.
        seconds: stage -> wall seconds of its run.
        memory_mb: peak memory of every process of its stages, in MiB.
    """
    found: dict[str, Any] = {"progress/iteration": summary["iteration"]}
    found |= {name: summary.get(column) for name, column in FROM_SUMMARY.items()}
    found |= {f"numbers/{number['name']}": number["value"] for number in summary.get("mean_numbers") or ()}
    if summary["rollouts"]:
        found["rollouts/truncated_share"] = summary["truncated"] / summary["rollouts"]
    found |= _step_metrics(steps)
    found |= {f"tokens/{stage}": count for stage, count in sampled.items()}
    found |= {f"seconds/{stage}": value for stage, value in seconds.items()}
    if seconds:
        found["seconds/total"] = sum(seconds.values())
    found["memory/peak"] = max(memory_mb, default=None)
    return finite(found)


def _step_metrics(steps: pl.DataFrame) -> dict[str, Any]:
    """The metrics of the optimizer steps; {} without a step."""
    if steps.is_empty():
        return {}
    found: dict[str, Any] = {
        "update/learning_rate": steps.sort("step")["learning_rate"][-1],
        "update/signal_rows": steps["signal_rows"].sum(),
    }
    for name, column in OVER_STEPS.items():
        rows = steps.filter(pl.col(column).is_not_null())
        weights = rows["loss_tokens"].to_numpy()
        if weights.sum():
            found[name] = np.average(rows[column].cast(pl.Float64).to_numpy(), weights=weights)
    return found


def evaluation_metrics(figures: pl.DataFrame, iteration: int, tokens: int, seconds: float | None) -> dict[str, float]:
    """Return the metrics of one evaluation; of pass@k and maj@k only those whose k is a power of two.

    Args:
        figures: `contracts.EvaluationFigures`.
        iteration: that wrote the policy; -1 for the initial policy.
        tokens: sampled for training until then.
        seconds: wall seconds of the stage; None: unknown.
    """
    found: dict[str, Any] = {
        "progress/iteration": iteration,
        "progress/tokens": tokens,
        "seconds/evaluate": seconds,
    }
    for row in figures.filter(pl.col("k").is_in(powers_of_two(figures["k"].max()))).to_dicts():
        figure = row["metric"].replace("_at_k", f"_at_{row['k']}")
        name = f"evaluation/{row['benchmark']}/{figure}"
        found |= {name: row["value"], f"{name}_low": row["low"], f"{name}_high": row["high"]}
    return finite(found)


def powers_of_two(largest: Any) -> list[int]:
    """0, for the figures without a k, and the powers of two up to the largest k."""
    return [0, *(2**power for power in range(int(largest or 0).bit_length()))]


def finite(values: Mapping[str, Any]) -> dict[str, float]:
    """The numbers among the values, by name; whole numbers stay whole."""
    return {
        name: value if isinstance(value, int) else float(value)
        for name, value in sorted(values.items())
        if value is not None and math.isfinite(value)
    }


def lasting(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics that an equal run has too."""
    return {name: value for name, value in metrics.items() if not name.startswith(VOLATILE)}
