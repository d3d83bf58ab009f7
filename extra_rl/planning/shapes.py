"""Shapes of decoder-only models, their number of parameters, and the shape of a configured model.

They cover Llama-like models (grouped heads, gated feed-forward layers, RMS norms), with Qwen3's norms of queries and
keys.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from extra_rl.config.experiment import Experiment
from extra_rl.config.sections import ModelConfig, TaskConfig
from extra_rl.errors import ConfigError, InputError
from extra_rl.models.context import bounded
from extra_rl.models.files import ADAPTER_CONFIG, packaged
from extra_rl.tasks.load import levels_and_words
from extra_rl.tasks.own import VOCABULARY

SPECIAL_WORDS = 3
"""pad, bos and eos of the tokenizers that this project makes (extra_rl/models/tokenizers.py)."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder-only transformer.

    tied: the output head is the embedding. qk_norm: each layer has a norm of `head_dim` weights for queries and for
    keys (Qwen3). positions: maximum sequence length of the model, 0 where it is not known.
    """

    vocabulary: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    tied: bool = True
    qk_norm: bool = True
    positions: int = 0

    @property
    def head_parameters(self) -> int:
        """Return the weights of the output head."""
        return self.vocabulary * self.hidden

    @property
    def layer_parameters(self) -> int:
        """Return the weights of all layers and the last norm: all but embedding and head."""
        attention = 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)
        norms = 2 * self.hidden + (2 * self.head_dim if self.qk_norm else 0)
        return self.layers * (attention + 3 * self.hidden * self.intermediate + norms) + self.hidden

    @property
    def parameters(self) -> int:
        """Return all weights, a tied head counted once."""
        return self.layer_parameters + self.head_parameters * (1 if self.tied else 2)

    def cache_bytes(self, bytes_per_number: int) -> int:
        """Return the bytes of keys and values of one token in all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim * bytes_per_number


def _qwen3(hidden: int, intermediate: int, layers: int, heads: int, tied: bool) -> Shape:
    return Shape(151_936, hidden, layers, heads, 8, 128, intermediate, tied, positions=40_960)


KNOWN = {
    "Qwen/Qwen3-0.6B": _qwen3(1024, 3072, 28, 16, tied=True),
    "Qwen/Qwen3-1.7B": _qwen3(2048, 6144, 28, 16, tied=True),
    "Qwen/Qwen3-4B": _qwen3(2560, 9728, 36, 32, tied=True),
    "Qwen/Qwen3-8B": _qwen3(4096, 12_288, 36, 32, tied=False),
    "Qwen/Qwen3-14B": _qwen3(5120, 17_408, 40, 40, tied=False),
    "Qwen/Qwen3-32B": _qwen3(5120, 25_600, 64, 64, tied=False),
}
"""Dense Qwen3 models by their name on the hub; `-Base` models have the same shape, but 32,768 positions."""


def with_context(experiment: Experiment) -> Experiment:
    """Return the experiment with the model's own context length where `model.context_tokens` is null."""
    section = experiment.common["prepare"]
    if section["model"]["context_tokens"] is not None:
        return experiment
    shape = shape_of(ModelConfig.model_validate(section["model"]), TaskConfig.model_validate(section["task"]))
    model = {**section["model"], "context_tokens": bounded(shape.positions)}

    def replaced(sections: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        return {name: {**found, "model": model} if "model" in found else found for name, found in sections.items()}

    arms = {name: replaced(sections) for name, sections in experiment.arms.items()}
    return experiment.model_copy(update={"common": replaced(experiment.common), "arms": arms})


def shape_of(model: ModelConfig, task: TaskConfig) -> Shape:
    """Return the shape of a configuration's model: `new`, a local directory's config.json, or a known name.

    Raises ConfigError for another name, InputError for a directory without a readable config.json.
    """
    if model.source == "new":
        return replace(_new(model, vocabulary_of_new(model, task)), positions=model.context_tokens or 0)
    directory = packaged(model.source) or Path(model.source)
    if model.gguf_file or directory.suffix == ".gguf" or (directory / ADAPTER_CONFIG).is_file():
        return _from_checkpoint(model)
    if directory.is_dir():
        return _from_file(directory / "config.json")
    if model.source.removesuffix("-Base") in KNOWN:
        known = KNOWN[model.source.removesuffix("-Base")]
        return replace(known, positions=32_768) if model.source.endswith("-Base") else known
    raise ConfigError(
        f"model.source: {model.source!r} is no local directory, and its shape is not known without the network (known: "
        f"{', '.join(KNOWN)}). Download the model and give its directory, or one that holds only its config.json."
    )


def vocabulary_of_new(model: ModelConfig, task: TaskConfig) -> int:
    """Return the vocabulary size of a new model's tokenizer."""
    if model.tokenizer == "bytes":
        return 256 + SPECIAL_WORDS
    if task.name in ("math", "reasoning_gym"):
        raise ConfigError(
            f"model.tokenizer: `words` is for generated tasks; a new model for `{task.name}` needs `bytes`."
        )
    words = levels_and_words(task)[1]
    if not words:
        raise ConfigError(f"{task.name} {VOCABULARY}.")
    return words + SPECIAL_WORDS


def _new(model: ModelConfig, vocabulary: int) -> Shape:
    shape = model.shape
    return Shape(
        vocabulary, shape.hidden, shape.layers, shape.heads, shape.kv_heads, shape.head_dim, shape.intermediate
    )


def _from_checkpoint(model: ModelConfig) -> Shape:
    """Return the shape of a GGUF file, or of the base of an adapter."""
    from extra_rl.models.load import read_config

    try:
        return shape_of_config(read_config(model.source, model.gguf_file))
    except (KeyError, ValueError) as error:
        raise InputError(f"{model.source}: not the configuration of a supported model ({error}).") from error


def _from_file(path: Path) -> Shape:
    try:
        config = json.loads(path.read_text())
        return shape_of_config(config)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; model.source must be a transformers model.") from None
    except ValueError as error:
        raise InputError(f"{path}: not the configuration of a supported model ({error}).") from error
    except KeyError as error:
        raise InputError(
            f"{path}: missing key {error}: a plan supports dense decoder-only models of the Llama and Qwen families."
        ) from None


def shape_of_config(config: Mapping[str, Any]) -> Shape:
    """Return the shape in a transformers config.json.

    Raises KeyError for a missing size, ValueError for a mixture of experts, whose tokens do not use all weights.
    """
    if any(key in config for key in ("num_experts", "num_local_experts")):
        raise ValueError("a mixture of experts")
    heads = int(config["num_attention_heads"])
    return Shape(
        vocabulary=int(config["vocab_size"]),
        hidden=int(config["hidden_size"]),
        layers=int(config["num_hidden_layers"]),
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=int(config.get("head_dim") or config["hidden_size"] // heads),
        intermediate=int(config["intermediate_size"]),
        tied=bool(config.get("tie_word_embeddings", False)),
        qk_norm=str(config.get("model_type", "")).startswith("qwen3"),
        positions=int(config.get("max_position_embeddings") or 0),
    )
