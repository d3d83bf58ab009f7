"""The settings of `update`: the one object that the stage, its worker processes and the trainer read."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from extra_rl.algorithms.learning_rate import Shape, decayed_share
from extra_rl.config.section import Section
from extra_rl.config.sections import ComputeConfig, SamplingConfig
from extra_rl.scoring.layout import DESCRIPTION, Layout
from extra_rl.training.lora import LoraConfig

Beta = Annotated[float, Field(ge=0, lt=1)]


class DecayConfig(Section):
    """How the learning rate falls from iteration to iteration (docs/course.md)."""

    shape: Shape = Field(description="linear or cosine")
    over: int = Field(
        ge=1,
        le=10_000,
        description="iterations over which the rate falls; it then stays. Usually `iterations`, but never taken from "
        "there: a run that is given more iterations would otherwise change the rates of finished ones",
    )
    final_share: float = Field(0.0, ge=0, le=1, description="share of the peak learning rate from iteration `over` on")


def _not_set(value: object) -> bool:
    return value is None


class UpdateSettings(Section):
    """Loss, optimizer, mini-batches, processes; frozen. `stages/update.py` takes its configuration from here."""

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
    learning_rate_decay: DecayConfig | None = Field(
        None,
        exclude_if=_not_set,  # the jobs of runs without it stay as they are
        description="null: the rate is constant after the warm-up; otherwise it falls by iterations, with the keys "
        "`shape` (linear, cosine), `over` (iterations) and `final_share` (docs/course.md)",
    )
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

    @property
    def every_row_has_gradient(self) -> bool:
        """Whether rows without an advantage have a gradient too: that of a KL or an entropy term."""
        return self.kl_weight > 0 or self.entropy_weight > 0

    def learning_rate_share(self, iteration: int) -> float:
        """Return the share of the peak learning rate in an iteration, apart from the warm-up."""
        decay = self.learning_rate_decay
        return decayed_share(iteration, decay.shape, decay.over, decay.final_share) if decay else 1.0

    @model_validator(mode="after")
    def _several_processes_train_all_weights(self) -> UpdateSettings:
        if self.processes % self.nodes:
            raise ValueError(f"{self.processes} processes cannot be shared by {self.nodes} nodes evenly")
        if self.processes > 1 and (self.lora is not None or self.optimizer != "adamw"):
            key = "lora" if self.lora is not None else f"optimizer: {self.optimizer}"
            raise ValueError(f"{key} trains in one process; set processes: 1, or train all weights with adamw")
        return self
