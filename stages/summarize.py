"""Puts an iteration into one row, and says it in one line.

READS   the iteration's tables, previous_summarize (the running total)
ADDS    summarize: group composition, lengths, entropy, regeneration and rescue, bonus share, update figures, tokens
SOURCE  our decision; sampled tokens are the currency of equal budgets (docs/method.md)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from extra_rl.algorithms.advantage import bonus_share
from extra_rl.records import seconds_of_iteration
from extra_rl.rewards.verdict import Verdict
from extra_rl.stage import Context, Inputs, Stage, StageConfig
from extra_rl.summary_line import horizon, summary_line
from extra_rl.tables import contracts
from extra_rl.tables.iteration import all_rollouts


class Config(StageConfig):
    """Nothing to choose: every figure is always there."""


STAGE = Stage(
    name="summarize",
    version=2,
    reads={
        "generate": contracts.Rollouts,
        "regenerate": contracts.Rollouts,
        "verify_generate": contracts.Verdicts,
        "verify_regenerate": contracts.Verdicts,
        "score_entropy_generate": contracts.TokenScores,
        "choose_prefixes": contracts.Prefixes,
        "advantage": contracts.Advantages,
        "update": contracts.UpdateSteps,
        "previous_summarize?": contracts.IterationSummary,
    },
    adds={"summarize": contracts.IterationSummary},
)


def run(inputs: Inputs, config: Config, context: Context) -> Mapping[str, pl.DataFrame]:
    """One row."""
    summary: dict[str, Any] = {
        "arm": context.job.arm,
        "seed": context.job.seed,
        "iteration": context.job.iteration,
        **rollout_figures(inputs),
        **update_figures(inputs),
    }
    total = sum(inputs["previous_summarize"]["total_sampled_tokens"])
    summary["total_sampled_tokens"] = total + summary["sampled_tokens"]
    folder = context.outputs["summarize"].parent
    context.console.say(summary_line(summary, horizon(), seconds_of_iteration(folder)))
    frame = pl.DataFrame([summary], schema=contracts.IterationSummary.create_empty().schema, strict=False)
    return {"summarize": frame}


def rollout_figures(inputs: Inputs) -> dict[str, float | int | None]:
    """Counts and means over the rollouts that this iteration sampled."""
    batch = all_rollouts(inputs, scores=("verify",))
    fresh = batch.filter(pl.col("origin") == "fresh")
    guided = batch.filter(pl.col("origin") == "regenerated")
    judged = fresh.filter(pl.col("reward").is_not_null())
    own = inputs["advantage"].filter(~pl.col("carried"))
    types = (
        fresh.group_by("group_id")
        .agg(right=(pl.col("verdict") == "right").sum(), judged=pl.col("reward").is_not_null().sum())
        .filter(pl.col("judged") > 0)
    )
    lengths = own.join(batch.select("rollout_id", "response_tokens"), on="rollout_id", maintain_order="left")
    scores = fresh.select("rollout_id").join(inputs["score_entropy_generate"], on="rollout_id", maintain_order="left")
    entropies = scores["entropies"].explode(empty_as_null=False).to_numpy()
    return {
        "rollouts": len(batch),
        "groups": fresh["group_id"].n_unique(),
        "all_wrong": int((types["right"] == 0).sum()),
        "mixed": int(((types["right"] > 0) & (types["right"] < types["judged"])).sum()),
        "all_right": int((types["right"] == types["judged"]).sum()),
        "pass_rate": _mean((judged["verdict"] == "right").cast(pl.Float64)),
        "mean_reward": _mean(judged["reward"].cast(pl.Float64)),
        "excluded": int(batch["reward"].is_null().sum()),
        **{f"verdict_{v.value}": int((batch["verdict"] == v.value).sum()) for v in Verdict},
        "mean_entropy": float(entropies.mean(dtype=np.float64)) if len(entropies) else None,
        "mean_length": _mean(fresh["response_tokens"].list.len().cast(pl.Float64)),
        "truncated": int((batch["finish_reason"] == "length").sum()),
        "prefixes_chosen": int(inputs["choose_prefixes"]["chosen"].sum()),
        "regenerated_rollouts": len(guided),
        "regenerated_groups": guided["group_id"].n_unique(),
        "rescued_groups": guided.filter(pl.col("verdict") == "right")["group_id"].n_unique(),
        "bonus_share": bonus_share(
            own["bonus"].to_numpy().astype(np.float64),
            own["normalised"].to_numpy().astype(np.float64),
            lengths["response_tokens"].list.len().to_numpy().astype(np.int64),
        ),
        "sampled_tokens": int(batch["sampled_tokens"].sum()),
    }


def update_figures(inputs: Inputs) -> dict[str, float | int | None]:
    steps = inputs["update"]
    return {
        "steps": len(steps),
        "loss": _mean(steps["loss"]),
        "gradient_norm": _mean(steps["gradient_norm"]),
        "importance_mean": _mean(steps["importance_mean"]),
        "importance_max": None if steps.is_empty() else float(np.max(steps["importance_max"].to_numpy())),
    }


def _mean(values: pl.Series) -> float | None:
    """Mean in float64, None of nothing."""
    return float(np.mean(values.to_numpy(), dtype=np.float64)) if len(values) else None
