"""Creates the initial policy: a new small Qwen3 or an existing model, with or without supervised training.

READS   held_out (no demonstration shows a held-out problem), train (worked solutions, where the task generates none)
WRITES  warm_start (the supervised loss of every step), policy (the initial policy of every arm and seed)
SOURCE  our decision: reinforcement learning needs a policy that is sometimes correct (docs/tiny.md)
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl
from pydantic import Field, model_validator

from extra_rl.config.judges import TASKS
from extra_rl.config.mistakes import nearest
from extra_rl.config.section import LevelWeights, Section, StageConfig
from extra_rl.config.sections import ComputeConfig, ModelConfig, TaskConfig
from extra_rl.devices.acquire import acquire
from extra_rl.errors import ModelError
from extra_rl.models.context import context_tokens_of
from extra_rl.models.protocol import CausalLM, Tokenizer
from extra_rl.run.stage import Context, Inputs, PolicyDirectory, Stage
from extra_rl.tables import contracts
from extra_rl.tasks.load import load_task
from extra_rl.user_code import require_source


class Config(StageConfig):
    """Supervised training on worked solutions; with `steps: 0` the model is used unchanged."""

    task: TaskConfig = Field(description="shared section `task`")
    model: ModelConfig = Field(description="shared section `model`")
    compute: ComputeConfig = Field(description="shared section `compute`")
    seed: int = Field(0, ge=0, description="seed of weights and demonstrations; experiment seeds share the warm start")
    steps: int = Field(0, ge=0, description="length of the learning-rate schedule; 0: no training")
    stop_at: int = Field(0, ge=0, description="step at which training stops, so that RL has something to learn")
    batch: int = Field(64, ge=1, description="demonstrations per step")
    learning_rate: float = Field(4e-3, gt=0, description="peak learning rate of AdamW")
    warmup: int = Field(100, ge=0, description="steps over which the learning rate rises")
    weight_decay: float = Field(0.01, ge=0, description="weight decay of AdamW")
    level_weights: LevelWeights = Field(
        {}, description="relative frequency of each level in the demonstrations; empty: equal"
    )

    @model_validator(mode="after")
    def training_stops_within_the_schedule(self) -> Config:
        if self.stop_at > self.steps:
            raise ValueError(f"stop_at: {self.stop_at} lies beyond the schedule of {self.steps} steps (`steps`)")
        if self.steps and not self.stop_at:
            raise ValueError(f"stop_at: 0 trains none of the {self.steps} steps (`steps`); set it to {self.steps}")
        return self

    @model_validator(mode="after")
    def levels_are_those_of_the_task(self) -> Config:
        if self.level_weights and self.task.name in TASKS:
            levels = load_task(self.task).levels
            for level in self.level_weights:
                if level not in levels:
                    raise ValueError(
                        f"level_weights: the task {self.task.name} has no level {level!r}; it has {', '.join(levels)}"
                        f"{nearest(level, levels)}"
                    )
        return self


class Derived(Section):
    """Values that follow from other sections."""

    stop: str | None = Field(None, description="the first of sampling.stop: it ends a demonstration")
    task_source: str = Field("", description="digest of the source text of a user's task")


STAGE = Stage(
    name="warm_start",
    version=3,
    reads={"held_out": contracts.Problems, "train?": contracts.Problems},
    writes={"warm_start": contracts.WarmStartSteps, "policy": PolicyDirectory},
    derived=Derived,
)


def run(inputs: Inputs, config: Config, context: Context) -> Mapping[str, pl.DataFrame]:
    """The loss of every step. The policy is written to its output directory."""
    from extra_rl.models.checks import require_vocabulary
    from extra_rl.models.policy import eos_token_ids, load_model, save_policy
    from extra_rl.models.probe import probe_of
    from extra_rl.problems.prepared import tokenizer_of
    from extra_rl.sampling.transformers import sampling_path
    from extra_rl.scoring.layout import chosen
    from extra_rl.training.warm_start import ModelShape, new_model

    require_source(config.task.name, context.derived.task_source)
    device = acquire(config.compute)
    tokenizer = tokenizer_of(config.task, config.model)
    if config.model.source == "new":
        shape = ModelShape(**config.model.shape.model_dump(), max_positions=context_tokens_of(config.model))
        model = new_model(tokenizer, shape, context.run_seed("weights", config.seed))
    else:
        model = load_model(config.model.source, config.model.revision, gguf_file=config.model.gguf_file)
        require_vocabulary(config.model.source, model, tokenizer)
        require_context(model, config.model)
    eos_token_ids(model, tokenizer, config.model.source)
    model = model.to(device)
    chosen("auto", model)  # refuses a model that no path can score before anything is written
    try:
        sampling_path(model)
    except ModelError as error:  # another backend may be able to sample it; otherwise `generate` refuses it
        context.console.say(f"WARNING: {error}")
    losses = train_on_demonstrations(model, tokenizer, inputs, config, context) if config.steps else []
    provenance = {**context.manifest("policy"), "probe": probe_of(model).to_remember()}
    save_policy(context.outputs["policy"], model, tokenizer, provenance)
    return {
        "warm_start": contracts.WarmStartSteps.cast(
            pl.DataFrame(losses, schema=["step", "loss", "learning_rate"], orient="row")
        )
    }


def require_context(model: CausalLM, config: ModelConfig) -> None:
    """Raise ModelError where a run's longest sequence exceeds the model's context."""
    from extra_rl.models.family import context

    limit = context(model.config)
    if limit is not None and config.context_tokens is not None and config.context_tokens > limit:
        raise ModelError(
            f"{config.source}: the model reads {limit:,} tokens (max_position_embeddings, or the original context of a "
            f"dynamic or longrope scaling), but model.context_tokens is {config.context_tokens:,}. Lower it and "
            "sampling.max_response_tokens, or use a model with a longer context."
        )


def train_on_demonstrations(
    model: CausalLM, tokenizer: Tokenizer, inputs: Inputs, config: Config, context: Context
) -> list[tuple[int, float, float]]:
    """Train on worked solutions of problems that are not held out; returns (step, loss, learning rate) of every step.

    Args:
        model: trained in place.
        tokenizer: of the model.
        inputs: contain `held_out` and `train`.
        config: of the stage.
        context: gives the seed and shows progress.
    """
    from extra_rl.tasks.demonstrations import demonstrations
    from extra_rl.training.warm_start import learning_rate_factor, train

    stream = demonstrations(
        config.task,
        context.derived.stop,
        tokenizer,
        seed=context.run_seed("demonstrations", config.seed),
        level_weights=config.level_weights,
        held_out=inputs["held_out"],
        train=inputs["train"],
    )
    progress = context.progress(config.stop_at, "warm start: step")
    rows: list[tuple[int, float, float]] = []

    def on_step(step: int, loss: float) -> None:
        factor = learning_rate_factor(step, config.warmup, config.steps)
        rows.append((step, loss, config.learning_rate * factor))
        progress.update(1, loss=loss)

    train(
        model,
        stream,
        steps=config.steps,
        stop_at=config.stop_at,
        batch=config.batch,
        lr=config.learning_rate,
        warmup=config.warmup,
        weight_decay=config.weight_decay,
        on_step=on_step,
    )
    return rows
