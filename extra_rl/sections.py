"""Sections of the configuration that several stages share. A stage that needs one has a field of its name."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from extra_rl.rewards.policy import Policy


class Section(BaseModel):
    """Frozen; unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class ComputeConfig(Section):
    """What the arithmetic runs on. Sums differ in their last bits with the thread count, so it is config."""

    threads: int = Field(1, ge=1, description="threads of torch within one stage")

    def apply(self) -> None:
        """Sets torch's threads; OMP_NUM_THREADS would be ignored after a fork."""
        import torch

        torch.set_num_threads(self.threads)


class SourceConfig(Section):
    """Problems from a local Parquet or JSONL file."""

    path: str = Field(description="file: .parquet or .jsonl")
    problem: str = Field("problem", description="column that holds the problem's text")
    answer: str = Field("answer", description="column that holds the gold answer")
    id: str | None = Field("id", description="column with a unique id; null: row numbers")
    limit: int | None = Field(None, ge=1, description="take the first N rows only")


class TaskConfig(Section):
    """Which problems, and who judges the answers."""

    name: Literal["signed_sum", "countdown", "math"] = Field(
        "signed_sum", description="a generated task, or `math`: problems from files, judged by math-verify"
    )
    boundary: str = Field(
        ";", description="text that ends a reasoning step: a prefix may be cut after a token that contains it"
    )
    train: SourceConfig | None = Field(None, description="math: training problems")
    benchmarks: dict[str, SourceConfig] = Field({}, description="math: held-out problems by benchmark name")
    system: str = Field("", description="math: system message of the chat template; empty: none")
    suffix: str = Field("", description="math: text appended to the problem, for example how to box the answer")


class ShapeConfig(Section):
    """The sizes of a Qwen3 that is made from random weights."""

    hidden: int = Field(64, ge=8, description="hidden size")
    layers: int = Field(3, ge=1, description="decoder layers")
    heads: int = Field(4, ge=1, description="query heads")
    kv_heads: int = Field(2, ge=1, description="key and value heads")
    head_dim: int = Field(32, ge=8, description="size of a head; vLLM's CPU kernels want at least 32")
    intermediate: int = Field(192, ge=8, description="hidden size of the feed-forward layers")


class ModelConfig(Section):
    """The model before any training."""

    source: str = Field("new", description="`new`: random weights of `shape`; else a local directory or hub name")
    revision: str | None = Field(None, description="revision on the hub")
    tokenizer: Literal["words", "bytes"] = Field(
        "words", description="for a new model: the task's vocabulary, or one token a byte"
    )
    shape: ShapeConfig = Field(default_factory=ShapeConfig, description="for a new model")
    context_tokens: int = Field(128, ge=8, description="longest prompt and response together")


class SamplingConfig(Section):
    """How tokens are sampled; shared by `generate`, `regenerate`, `score_entropy` and `update`."""

    backend: Literal["transformers"] = Field("transformers", description="engine that samples")
    temperature: float = Field(1.0, gt=0, description="logits are divided by it, here and in every logprob")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus; training refuses values below 1")
    top_k: int = Field(0, ge=0, description="keep the k likeliest tokens; 0: all; training refuses others")
    max_response_tokens: int = Field(64, ge=1, description="response length at which a rollout is cut off")
    batch_rows: int = Field(256, ge=1, description="sequences decoded together")


class VerifierConfig(Section):
    """How untrusted text is judged, and what a verdict is worth."""

    workers: int = Field(1, ge=1, description="judging processes; generated tasks are judged in the stage itself")
    timeout_s: float = Field(5.0, gt=0, description="CPU-seconds after which a judgement is killed: verdict `timeout`")
    memory_mb: int = Field(2048, ge=256, description="memory limit of a judging process")
    max_chars: int = Field(20_000, ge=100, description="a longer response is not read (generated tasks read its end)")
    policy: Policy = Field(default_factory=Policy, description="math: what counts as equal where tastes differ")


SHARED: dict[str, type[BaseModel]] = {
    "compute": ComputeConfig,
    "task": TaskConfig,
    "model": ModelConfig,
    "sampling": SamplingConfig,
    "verifier": VerifierConfig,
}
"""Top-level sections by name; `extra_rl.config.resolve` puts them into the stages that declare such a field."""
