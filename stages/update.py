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
from pathlib import Path
from typing import Annotated, Literal

import polars as pl
from pydantic import Field, model_validator

from extra_rl.config.section import StageConfig
from extra_rl.config.sections import ComputeConfig, SamplingConfig
from extra_rl.devices.acquire import acquire
from extra_rl.errors import InputError
from extra_rl.run.stage import Context, Inputs, PolicyDirectory, Stage
from extra_rl.scoring.layout import DESCRIPTION, Layout
from extra_rl.tables import contracts
from extra_rl.training.lora import LoraConfig

Beta = Annotated[float, Field(ge=0, lt=1)]


class Config(StageConfig):
    """Loss, optimizer, mini-batches."""

    sampling: SamplingConfig = Field(description="shared section `sampling`: logprobs are taken at its temperature")
    compute: ComputeConfig = Field(description="shared section `compute`")
    loss: Literal["clipped", "gspo", "cispo", "supervised"] = Field(
        "clipped",
        description="clipped: PPO with clip-higher; GSPO; CISPO; supervised: cross-entropy weighted by the advantage "
        "(for `generate.source: demonstrations`)",
    )
    aggregate: Literal["token_mean", "sequence_mean", "constant"] = Field(
        "token_mean",
        description="weights of tokens: equal (DAPO), equal by sequence (GRPO), or a constant (Dr. GRPO)",
    )
    clip_low: float = Field(0.2, ge=0, le=1, description="lower clip of the ratio; GSPO needs 3e-4")
    clip_high: float = Field(0.28, ge=0, description="upper clip of the ratio; GSPO needs 4e-4")
    dual_clip: float | None = Field(10.0, gt=1, description="bound of the loss for negative advantages; null: off")
    importance_cap: float | None = Field(
        2.0,
        gt=0,
        description="cap of pi_old / pi_sampler, the importance weight of each sampled token, with every backend; "
        "null: no weight",
    )
    kl_weight: float = Field(0.0, ge=0, description="weight of the KL to the initial policy; 0: off")
    kl: Literal["k1", "k2", "k3"] = Field(
        "k3",
        description="KL estimator: k3 (GRPO), k2, or k1 with the gradient of k2 (`k1 in reward`; docs/method.md)",
    )
    entropy_weight: float = Field(0.0, ge=0, description="weight of the entropy bonus; 0: off")
    signal_only: bool = Field(
        False,
        description="true: leave rows without a signal out of the loss's denominator and the mini-batches (DAPO); with "
        "a KL term or an entropy bonus every row has a signal",
    )
    minibatches: int = Field(2, ge=1, description="optimizer steps per pass over the rows")
    epochs: int = Field(1, ge=1, description="passes over the rows")
    layout: Layout = Field("auto", description=DESCRIPTION)
    tokens_per_batch: int = Field(
        8192, ge=1, description="maximum tokens of one forward and backward pass; padding counts, shared tokens once"
    )
    learning_rate: float = Field(3e-4, gt=0, description="peak learning rate of AdamW")
    warmup_steps: int = Field(0, ge=0, description="optimizer steps over which the learning rate rises")
    optimizer: Literal["adamw", "adamw_8bit"] = Field(
        "adamw",
        description="adamw_8bit: moments in 8 bits, a quarter of their memory and disk (pip install "
        "'extra-rl[adam8bit]')",
    )
    betas: tuple[Beta, Beta] = Field((0.9, 0.95), description="AdamW's betas")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's weight decay")
    gradient_clip: float = Field(1.0, gt=0, description="maximum norm of the gradient")
    gradient_checkpointing: bool = Field(
        False, description="true: keep only the input of each layer and recompute the layer in the backward pass"
    )
    lora: LoraConfig | None = Field(
        None, description="train adapters over the frozen initial policy; null: train all weights"
    )
    processes: int = Field(
        1,
        ge=1,
        description="number of processes, one per device, over which weights, gradients and optimizer state are "
        "sharded (FSDP2, started by torchrun; docs/arithmetic.md)",
    )
    nodes: int = Field(1, ge=1, description="nodes of the Slurm allocation over which the processes are spread evenly")

    @model_validator(mode="after")
    def _several_processes_train_all_weights(self) -> Config:
        if self.processes % self.nodes:
            raise ValueError(f"{self.processes} processes cannot be shared by {self.nodes} nodes evenly")
        if self.processes > 1 and (self.lora is not None or self.optimizer != "adamw"):
            key = "lora" if self.lora is not None else f"optimizer: {self.optimizer}"
            raise ValueError(f"{key} trains in one process; set processes: 1, or train all weights with adamw")
        return self


STAGE = Stage(
    name="update",
    version=4,
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
    from extra_rl.models import retention
    from extra_rl.models.policy import write_same_policy

    rows = training_rows(inputs, config)
    if config.signal_only and not (config.kl_weight or config.entropy_weight):
        rows = rows.filter(pl.col("trained") == "trained")
    has_signal = (pl.col("trained") == "trained").any()
    if rows.is_empty() or not (rows.select(has_signal).item() or config.kl_weight or config.entropy_weight):
        write_same_policy(context.outputs["next_policy"], inputs.policy(), context.manifest("policy"))
        steps = contracts.UpdateSteps.create_empty()
    else:
        if config.kl_weight or config.entropy_weight:  # every row has a gradient then
            refuse_unscored(rows)
        steps = contracts.UpdateSteps.cast(train(rows, inputs, config, context))
    if context.run.retention is not None:
        retention.thin(context.outputs["next_policy"], context.job.iteration, context.run.retention)
    return {"update": steps}


def training_rows(inputs: Inputs, config: Config) -> pl.DataFrame:
    """Rows that the loss may count, with tokens and old logprobs, in the order of the advantage table.

    Rows without a signal may have null for old logprobs; InputError where one that is trained on has. A supervised loss
    looks at none: rows that were not scored have those of the sampler there.
    """
    tokens = pl.concat(inputs[rollouts] for rollouts in ("generate", "regenerate", "previous_generate"))
    scores = pl.concat(
        inputs[role].filter(pl.col("policy_logprobs").is_not_null())
        for role in ("score_entropy_generate", "score_entropy_regenerate", "previous_score_entropy_generate")
    )  # a parent that was left out in its own iteration is scored in that of its continuations
    tokens = tokens.join(scores, on="rollout_id", how="left", maintain_order="left")
    counted = inputs["advantage"].filter(pl.col("trained").is_in(["trained", "no_signal"]))
    columns = [
        "rollout_id",
        "prompt_tokens",
        "response_tokens",
        "prefix_length",
        "sampler_logprobs",
        "policy_logprobs",
    ]
    rows = counted.join(tokens.select(columns), on="rollout_id", how="left", maintain_order="left")
    if config.loss == "supervised":
        rows = rows.with_columns(policy_logprobs=pl.coalesce("policy_logprobs", "sampler_logprobs"))
    refuse_unscored(rows.filter(pl.col("trained") == "trained"))
    return rows


def refuse_unscored(rows: pl.DataFrame) -> None:
    """InputError where a row that is to be trained on has no old logprobs."""
    unscored = rows.filter(pl.col("policy_logprobs").is_null())["rollout_id"]
    if len(unscored):
        raise InputError(
            f"{len(unscored)} of {len(rows)} rollouts to train on have no logprobs of the policy, first {unscored[0]}: "
            "score_entropy left them out. Set score_entropy.rows: all, or delete the iteration's score_entropy tables "
            "and run again; snakemake rebuilds them."
        )


def train(rows: pl.DataFrame, inputs: Inputs, config: Config, context: Context) -> pl.DataFrame:
    """Takes the steps and saves the next policy; returns one row of metrics a step."""
    from extra_rl.training import run as training
    from extra_rl.training.launch import WorkerJob, train_in_processes
    from extra_rl.training.parallel import Parallel
    from extra_rl.training.settings import LossSettings

    device = acquire(config.compute, devices=config.processes // config.nodes)
    settings = LossSettings(
        **config.model_dump(include=set(LossSettings.__dataclass_fields__)),
        temperature=config.sampling.temperature,
        max_response_tokens=config.sampling.max_response_tokens,
        precision=config.compute.precision,
    )
    folder = context.run.retention.optimizer_folder if context.run.retention else None
    job = training.TrainingJob(
        policy=inputs.policy(),
        initial=inputs.policy("initial") if config.kl_weight or config.lora else None,
        next_policy=context.outputs["next_policy"],
        provenance=context.manifest("policy"),
        settings=settings,
        betas=config.betas,
        weight_decay=config.weight_decay,
        gradient_checkpointing=config.gradient_checkpointing,
        minibatches=config.minibatches,
        seeds=tuple(context.seed("minibatches", epoch) for epoch in range(config.epochs)),
        title=f"{context.job.place} update: step",
        optimizer=config.optimizer,
        optimizer_folder=Path(folder) if folder else None,
        lora=config.lora,
        adapter_seed=context.run_seed("adapters"),
    )
    if config.processes > 1:
        shared = context.outputs["update"].with_suffix(".processes")
        worker = WorkerJob(job, device, config.compute.threads, config.processes, config.nodes)
        made = train_in_processes(worker, rows, shared, context.console)
        context.figures.update(made["figures"])
        context.figures["peak_memory_mb_per_process"] = max(made["peak_memory_mb"])
        steps = made["steps"]
    else:
        step_done = context.progress(job.steps, job.title).update
        steps = training.train(job, rows, Parallel(device), step_done, context.figures)
    return pl.DataFrame(steps, schema=contracts.UpdateSteps.create_empty().schema, strict=False)
