"""Context length of a configuration's model: how many tokens it reads at most, from its configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from extra_rl.config.sections import LONGEST_CONTEXT, ModelConfig

POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "seq_length")
"""Keys of a config.json that name the context length, by family."""


def context_tokens_of(model: ModelConfig) -> int:
    """Return the maximum tokens of prompt and response together.

    This is `model.context_tokens`; where that is null, the length that the given model's configuration names, at most
    LONGEST_CONTEXT. A model that names none has LONGEST_CONTEXT.
    Raises ModelError where the model's configuration cannot be read.
    """
    if model.context_tokens is not None:
        return model.context_tokens
    from extra_rl.models.load import read_config

    return bounded(positions_of(read_config(model.source, model.gguf_file, model.revision)))


def bounded(positions: int | None) -> int:
    """Return the context that is taken from a model that reads `positions` tokens; None: it names no limit."""
    return min(positions or LONGEST_CONTEXT, LONGEST_CONTEXT)


def positions_of(config: Mapping[str, Any]) -> int | None:
    """Return the tokens that a model with this config.json reads at most; None where it names no limit.

    As `family.context` for a loaded model: beyond the original context of a `dynamic` or `longrope` scaling, numbers
    depend on the neighbours in a batch, so that length is the limit.
    """
    inner = config.get("text_config")
    text = inner if isinstance(inner, Mapping) else config
    named = next((text[key] for key in POSITIONS if isinstance(text.get(key), int) and text[key] > 0), None)
    limits = [named] if named else []
    for scaling in _scalings(text):
        kind = str(scaling.get("rope_type") or scaling.get("type") or "")
        original = scaling.get("original_max_position_embeddings") or named
        if isinstance(original, int) and ("dynamic" in kind or kind == "longrope"):
            limits.append(original)
    return min(limits, default=None)


def _scalings(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The rotary scalings of a config: one, or one for each kind of layer."""
    for key in ("rope_scaling", "rope_parameters"):
        found = config.get(key)
        if isinstance(found, Mapping):
            yield found
            yield from (part for part in found.values() if isinstance(part, Mapping))
