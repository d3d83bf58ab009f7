"""One iteration's optimizer steps: from advantages to the next policy.

READS   generate, regenerate, their token scores (old logprobs), advantage, policy (with its optimizer state), initial
        (reference of the KL term), and the former iteration's rollouts where a joined group was completed by them
ADDS    update (one row a step), policy (the next; the same one where there was nothing to learn from)
SOURCE  docs/method.md 1: clipped surrogate with clip-higher and dual clip, token mean over the whole mini-batch,
        truncated importance weight where sampler and trainer differ
REMOVES old weights and optimizer states where `retention` says so (docs/decisions/0007-retention.md)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import polars as pl
from pydantic import Field

from extra_rl.sections import ComputeConfig, SamplingConfig
from extra_rl.stage import Context, Inputs, PolicyDirectory, Stage, StageConfig
from extra_rl.tables import contracts


class Config(StageConfig):
    """Loss, optimizer, mini-batches."""

    sampling: SamplingConfig = Field(description="shared section `sampling`: logprobs are taken at its temperature")
    compute: ComputeConfig = Field(description="shared section `compute`")
    loss: Literal["clipped", "gspo", "cispo"] = Field("clipped", description="PPO with clip-higher, GSPO, or CISPO")
    aggregate: Literal["token_mean", "sequence_mean", "constant"] = Field(
        "token_mean",
        description="how tokens weigh: alike (DAPO), by sequence (GRPO), or by a constant (Dr. GRPO)",
    )
    clip_low: float = Field(0.2, ge=0, description="lower clip of the ratio; GSPO wants 3e-4")
    clip_high: float = Field(0.28, ge=0, description="upper clip of the ratio; GSPO wants 4e-4")
    dual_clip: float | None = Field(10.0, gt=1, description="bound of the loss for negative advantages; null: off")
    importance_cap: float | None = Field(
        2.0,
        gt=0,
        description="cap of pi_old / pi_sampler, which weighs each sampled token, whatever the backend; on by default; "
        "null: no weight",
    )
    kl_weight: float = Field(0.0, ge=0, description="weight of the k3 KL to the initial policy; 0: off")
    entropy_weight: float = Field(0.0, ge=0, description="weight of the entropy bonus; 0: off")
    signal_only: bool = Field(False, description="true: rows without a signal leave the loss's denominator too")
    minibatches: int = Field(2, ge=1, description="optimizer steps per pass over the rows")
    epochs: int = Field(1, ge=1, description="passes over the rows")
    tokens_per_batch: int = Field(8192, ge=1, description="padded tokens of one forward and backward pass")
    learning_rate: float = Field(3e-4, gt=0, description="peak learning rate of AdamW")
    warmup_steps: int = Field(0, ge=0, description="optimizer steps over which the learning rate rises")
    betas: tuple[float, float] = Field((0.9, 0.95), description="AdamW's betas")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's weight decay")
    gradient_clip: float = Field(1.0, gt=0, description="largest norm of a gradient")
    gradient_checkpointing: bool = Field(
        False, description="true: keep only each layer's input and compute the layer again in the backward pass"
    )


STAGE = Stage(
    name="update",
    version=1,
    reads={
        "generate": contracts.Rollouts,
        "regenerate": contracts.Rollouts,
        "score_entropy_generate": contracts.TokenScores,
        "score_entropy_regenerate": contracts.TokenScores,
        "advantage": contracts.Advantages,
        "policy": PolicyDirectory,
        "initial": PolicyDirectory,
        "previous_generate?": contracts.Rollouts,
        "previous_score_entropy_generate?": contracts.TokenScores,
    },
    adds={"update": contracts.UpdateSteps, "next_policy": PolicyDirectory},
)


def run(inputs: Inputs, config: Config, context: Context) -> Mapping[str, pl.DataFrame]:
    """The metrics of every step; the next policy is written on the way."""
    from extra_rl import retention
    from extra_rl.policy import write_same_policy

    rows = training_rows(inputs)
    has_signal = (pl.col("trained") == "trained").any()
    if rows.is_empty() or not (rows.select(has_signal).item() or config.kl_weight or config.entropy_weight):
        write_same_policy(context.outputs["next_policy"], inputs.policy(), context.manifest("policy"))
        steps = contracts.UpdateSteps.create_empty()
    else:
        steps = contracts.UpdateSteps.cast(train(rows, inputs, config, context))
    keep = retention.announced()
    if keep is not None:
        retention.thin(context.outputs["next_policy"], context.job.iteration, keep)
    return {"update": steps}


def training_rows(inputs: Inputs) -> pl.DataFrame:
    """Rows that the loss may count, with tokens and old logprobs, in the order of the advantage table."""
    tokens = pl.concat(
        inputs[rollouts].join(inputs[scores], on="rollout_id", maintain_order="left")
        for rollouts, scores in (
            ("generate", "score_entropy_generate"),
            ("regenerate", "score_entropy_regenerate"),
            ("previous_generate", "previous_score_entropy_generate"),
        )
    )
    counted = inputs["advantage"].filter(pl.col("trained").is_in(["trained", "no_signal"]))
    columns = [
        "rollout_id",
        "prompt_tokens",
        "response_tokens",
        "prefix_length",
        "sampler_logprobs",
        "policy_logprobs",
    ]
    return counted.join(tokens.select(columns), on="rollout_id", how="left", maintain_order="left")


def train(rows: pl.DataFrame, inputs: Inputs, config: Config, context: Context) -> pl.DataFrame:
    """Takes the steps and saves the next policy; returns one row of metrics a step."""
    from extra_rl.policy import load_policy, save_policy
    from extra_rl.training.optimizer import load_optimizer, optimizer_state
    from extra_rl.training.rollouts import minibatches_of, to_rollouts
    from extra_rl.training.settings import LossSettings
    from extra_rl.training.trainer import Trainer, reference_model

    device = config.compute.apply()
    policy = load_policy(inputs.policy(), device=device)
    if config.gradient_checkpointing:
        policy.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    optimizer = load_optimizer(
        policy,
        learning_rate=config.learning_rate,
        betas=config.betas,
        weight_decay=config.weight_decay,
    )
    settings = LossSettings(
        **config.model_dump(include=set(LossSettings.__dataclass_fields__)),
        temperature=config.sampling.temperature,
        max_response_tokens=config.sampling.max_response_tokens,
        precision=config.compute.precision,
    )
    reference = reference_model(inputs.policy("initial"), device) if config.kl_weight else None
    trainer = Trainer(policy.model, optimizer, settings, reference)
    rollouts = to_rollouts(rows)
    progress = context.progress(config.epochs * config.minibatches, f"{context.job.place} update: step")
    steps: list[dict[str, float]] = []
    for epoch in range(config.epochs):
        for rows_of_step in minibatches_of(rollouts, config.minibatches, context.seed("minibatches", epoch)):
            metrics = trainer.step(rows_of_step)
            if metrics is not None:
                steps.append({"step": len(steps), **metrics})
            progress.update(1)
    save_policy(
        context.outputs["next_policy"],
        policy.model,
        policy.tokenizer,
        context.manifest("policy"),
        optimizer_state(optimizer, policy.model),
    )
    return pl.DataFrame(steps, schema=contracts.UpdateSteps.create_empty().schema, strict=False)
