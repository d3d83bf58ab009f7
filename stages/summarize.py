"""Summarise an iteration in one row and one line.

READS   the iteration's tables, policy (its number of weights), previous_summarize (the running totals),
        previous_summarize_state
WRITES  summarize: group composition, lengths, entropy, regeneration, rescue and replay, bonus share, update figures,
        mismatch of sampler and policy, tokens, compute, useful groups per unit of both; summarize_state: the position
        in the stream of problems, for select
SOURCE  our decision; sampled tokens and compute are the currencies of equal budgets (docs/method.md 4)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import Field

from extra_rl.algorithms.advantage import bonus_share
from extra_rl.algorithms.mismatch import mismatch
from extra_rl.config.section import Section, StageConfig
from extra_rl.report.summary_line import summary_line
from extra_rl.run.compute import compute_figures, embedding_figures
from extra_rl.run.records import seconds_of_iteration, tolerance_of_iteration
from extra_rl.run.stage import Context, Inputs, PolicyDirectory, Stage
from extra_rl.tables import contracts
from extra_rl.tables.iteration import all_rollouts
from extra_rl.tables.signal import is_replay, useful_groups
from extra_rl.verdict import Verdict


class Config(StageConfig):
    """No keys: every figure is always computed."""


class Derived(Section):
    """Values that follow from the sections `novelty` and `choose_prefixes`: what their embeddings cost."""

    embedder: Literal["policy", "sentence", ""] = Field("", description="model of the embeddings; empty: none")
    smoothing: Literal["policy", "sentence", ""] = Field(
        "", description="model that embeds candidate prefixes (choose_prefixes.smoothing); empty: none"
    )
    tail_tokens: int = Field(512, description="novelty.tail_tokens")


STAGE = Stage(
    name="summarize",
    version=9,
    reads={
        "select": contracts.Selection,
        "generate": contracts.Rollouts,
        "regenerate": contracts.Rollouts,
        "verify_generate": contracts.Verdicts,
        "verify_regenerate": contracts.Verdicts,
        "score_entropy_generate": contracts.TokenScores,
        "score_entropy_regenerate": contracts.TokenScores,
        "choose_prefixes": contracts.Prefixes,
        "novelty": contracts.Novelty,
        "choose_prefixes_bank?": contracts.ReplayBank,
        "advantage": contracts.Advantages,
        "update": contracts.UpdateSteps,
        "policy": PolicyDirectory,
        "previous_summarize?": contracts.IterationSummary,
        "previous_summarize_state?": contracts.IterationState,
    },
    writes={"summarize": contracts.IterationSummary, "summarize_state": contracts.IterationState},
    derived=Derived,
)


def run(inputs: Inputs, config: Config, context: Context) -> Mapping[str, pl.DataFrame]:
    """Write one row and print its line."""
    summary: dict[str, Any] = {
        "arm": context.job.arm,
        "seed": context.job.seed,
        "iteration": context.job.iteration,
        **rollout_figures(inputs),
        **update_figures(inputs),
        **mismatch_figures(inputs),
    }
    summary |= compute_figures(inputs, inputs.policy(), summary["sampled_tokens"])
    derived = context.derived
    summary |= embedding_figures(
        inputs, inputs.policy(), derived.embedder, derived.tail_tokens, smoothing=derived.smoothing
    )
    summary |= useful_figures(inputs["advantage"], summary["sampled_tokens"], summary["compute"])
    for name in ("sampled_tokens", "compute"):
        summary[f"total_{name}"] = sum(inputs["previous_summarize"][f"total_{name}"]) + summary[name]
    folder = context.outputs["summarize"].parent
    seconds, tolerance = seconds_of_iteration(folder), tolerance_of_iteration(folder)
    context.console.say(summary_line(summary, context.run.horizon, seconds, tolerance))
    frame = pl.DataFrame([summary], schema=contracts.IterationSummary.create_empty().schema, strict=False)
    return {"summarize": frame, "summarize_state": state(inputs, context.job.iteration)}


def rollout_figures(inputs: Inputs) -> dict[str, Any]:
    """Return counts and means over the rollouts of this iteration."""
    batch = all_rollouts(inputs, scores=("verify",))
    fresh = batch.filter(pl.col("origin") == "fresh")
    continuations = batch.filter(pl.col("origin") == "regenerated", ~is_replay())
    judged = fresh.filter(pl.col("reward").is_not_null())
    own = inputs["advantage"].filter(~pl.col("carried"))
    types = (
        fresh.group_by("group_id")
        .agg(right=(pl.col("verdict") == "right").sum(), judged=pl.col("reward").is_not_null().sum())
        .filter(pl.col("judged") > 0)
    )
    lengths = own.join(batch.select("rollout_id", "response_tokens"), on="rollout_id", maintain_order="left")
    scores = fresh.select("rollout_id").join(inputs["score_entropy_generate"], on="rollout_id", maintain_order="left")
    entropies = scores["entropies"].drop_nulls().explode(empty_as_null=False).to_numpy()
    return {
        "rollouts": len(batch),
        "groups": fresh["group_id"].n_unique(),
        "all_incorrect": int((types["right"] == 0).sum()),
        "mixed": int(((types["right"] > 0) & (types["right"] < types["judged"])).sum()),
        "all_correct": int((types["right"] == types["judged"]).sum()),
        "pass_rate": _mean((judged["verdict"] == "right").cast(pl.Float64)),
        "mean_reward": _mean(judged["reward"].cast(pl.Float64)),
        "excluded": int(batch["reward"].is_null().sum()),
        **{f"verdict_{v.value}": int((batch["verdict"] == v.value).sum()) for v in Verdict},
        "mean_entropy": float(entropies.mean(dtype=np.float64)) if len(entropies) else None,
        "mean_length": _mean(fresh["response_tokens"].list.len().cast(pl.Float64)),
        "truncated": int((batch["finish_reason"] == "length").sum()),
        "prefixes_chosen": int(inputs["choose_prefixes"]["chosen"].sum()),
        "regenerated_rollouts": len(continuations),
        "regenerated_groups": continuations["group_id"].n_unique(),
        "rescued_groups": continuations.filter(pl.col("verdict") == "right")["group_id"].n_unique(),
        **replay_figures(batch.filter(is_replay())),
        "stored_trajectories": len(inputs["choose_prefixes_bank"]),
        "bonus_share": bonus_share(
            own["bonus"].to_numpy().astype(np.float64),
            own["normalised"].to_numpy().astype(np.float64),
            lengths["response_tokens"].list.len().to_numpy().astype(np.int64),
        ),
        "sampled_tokens": int(batch["sampled_tokens"].sum()),
        "mean_numbers": mean_numbers(fresh),
    }


def useful_figures(advantages: pl.DataFrame, tokens: int, compute: float) -> dict[str, Any]:
    """Return the useful groups of this iteration, and how many it had per 1,000 sampled tokens and per 10^12 FLOP."""
    useful = useful_groups(advantages)
    return {
        "useful_groups": useful,
        "useful_per_1000_tokens": 1e3 * useful / tokens if tokens else None,
        "useful_per_tflop": 1e12 * useful / compute if compute else None,
    }


def replay_figures(replays: pl.DataFrame) -> dict[str, Any]:
    """Return counts and the pass rate of the replays of stored trajectories. replays: with verdicts."""
    judged = replays.filter(pl.col("reward").is_not_null()).with_columns(is_right=pl.col("verdict") == "right")
    groups = judged.group_by("group_id").agg(pl.col("is_right").n_unique())
    return {
        "replayed_rollouts": len(replays),
        "replayed_groups": replays["group_id"].n_unique(),
        "replayed_mixed": int((groups["is_right"] > 1).sum()),
        "replayed_pass_rate": _mean(judged["is_right"].cast(pl.Float64)),
    }


def mean_numbers(rollouts: pl.DataFrame) -> list[dict[str, Any]] | None:
    """Return the mean of each named number over the rollouts that have it, by name; None for none."""
    means = (
        rollouts.select(pl.col("numbers").drop_nulls().explode(empty_as_null=False))
        .unnest("numbers")
        .group_by("name")
        .agg(pl.col("value").mean())
        .sort("name")
    )
    return means.to_dicts() or None


def update_figures(inputs: Inputs) -> dict[str, float | int | None]:
    """Return means over the optimizer steps of this iteration."""
    steps = inputs["update"]
    return {
        "steps": len(steps),
        "loss": _mean(steps["loss"]),
        "gradient_norm": _mean(steps["gradient_norm"]),
        "importance_mean": _mean(steps["importance_mean"]),
        "importance_max": None if steps.is_empty() else float(np.max(steps["importance_max"].to_numpy())),
    }


def mismatch_figures(inputs: Inputs) -> dict[str, float | None]:
    """Return the mismatch of sampler and policy over every token that was sampled and scored."""
    scored = all_rollouts(inputs, scores=("score_entropy",)).filter(
        pl.col("policy_logprobs").is_not_null(), pl.col("sampler_logprobs").is_not_null()
    )
    tokens = scored.select(
        pl.col(name).list.slice(pl.col("prefix_length")) for name in ("policy_logprobs", "sampler_logprobs")
    )
    columns = (tokens[name].explode(empty_as_null=False).to_numpy() for name in tokens.columns)
    return {f"mismatch_{name}": value for name, value in mismatch(*columns)._asdict().items()}


def state(inputs: Inputs, iteration: int) -> pl.DataFrame:
    """Return the IterationState after this iteration."""
    fresh = inputs["generate"].filter(pl.col("origin") == "fresh")["group_id"].unique()
    sampled = inputs["select"].filter(pl.col("group_id").is_in(fresh.implode()))["position"].to_list()
    before = inputs["previous_summarize_state"]["next_position"].to_list() or [0]
    row = {"iteration": iteration, "next_position": max(sampled) + 1 if sampled else before[0]}
    return contracts.IterationState.cast(pl.DataFrame([row]))


def _mean(values: pl.Series) -> float | None:
    """Return the mean in float64, None for no values."""
    return float(np.mean(values.to_numpy(), dtype=np.float64)) if len(values) else None
