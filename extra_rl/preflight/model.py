"""Faults of a given model, from its JSON files and the headers of its weights; no library of models is loaded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from extra_rl.config.check import grouped
from extra_rl.config.mistakes import nearest
from extra_rl.config.sections import ModelConfig, TaskConfig
from extra_rl.errors import ExtraError
from extra_rl.models import adapter
from extra_rl.models.context import bounded, positions_of
from extra_rl.models.files import CONFIG, INDEX_SUFFIX, read_json
from extra_rl.models.load import place_of, readable_gguf, require_checkpoint
from extra_rl.preflight.hub import fault_of_name
from extra_rl.preflight.template import fault_of_template

Targets = Mapping[str, str | Sequence[str]]

NEW_LAYERS = ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")
"""Linear layers of a new model (Qwen3)."""


def faults_of_model(
    model: ModelConfig, task: TaskConfig, responses: Mapping[str, int], targets: Targets
) -> Iterator[str]:
    """Yield one line for every fault of the configuration's model. A name on the hub is not looked at.

    Args:
        model: the section.
        task: what the chat template renders.
        responses: key -> the most tokens of a response that it allows.
        targets: arm -> `update.lora.targets`; empty: it trains no adapters.
    """
    if model.source == "new":
        yield from unknown_targets(targets, NEW_LAYERS)
        return
    if reason := fault_of_name(model.source):
        yield f"model.source: {reason}"
        return
    try:
        directory, gguf = place_of(
            Path(model.source).expanduser() if model.source[0] == "~" else model.source, model.gguf_file
        )
        if gguf is not None:
            readable_gguf(gguf)
        if gguf is not None or not isinstance(directory, Path):
            return
        found = adapter.find(directory, None)
        whole = directory if found is None else found.base
        if isinstance(whole, Path) and whole.is_dir():
            require_checkpoint(whole)
            yield from faults_of_context(read_json(whole / CONFIG), model, responses)
            yield from unknown_targets(targets, layers_of(whole))
        if task.chat_template and (reason := fault_of_template(directory, task)):
            yield f"model.source: {reason}"
    except ExtraError as error:
        yield f"model.source: {error}"


def faults_of_context(config: Mapping[str, Any], model: ModelConfig, responses: Mapping[str, int]) -> Iterator[str]:
    """A context that the model does not have, and responses that leave no tokens for a prompt."""
    positions = positions_of(config)
    if model.context_tokens is not None:
        if positions is not None and model.context_tokens > positions:
            yield (
                f"model.context_tokens: {model.context_tokens:,} is more than {model.source} reads ({positions:,} "
                f"tokens, by its {CONFIG}); lower it, or leave it out"
            )
        return
    context = bounded(positions)
    for key, response in responses.items():
        if response >= context:
            yield (
                f"{key}: {response:,} leaves no tokens for a prompt: {model.source} reads {context:,} here (set "
                "model.context_tokens for another length)"
            )


def unknown_targets(targets: Targets, layers: Iterable[str]) -> list[str]:
    """Layers of `update.lora.targets` that the model has not; without known layers nothing is said."""
    known = sorted(layers)
    return grouped(
        {
            arm: [
                f"update.lora.targets: the model has no layer {name} (it has {', '.join(known)}){nearest(name, known)}"
                for name in ([] if isinstance(names, str) or not known else names)
                if name not in known
            ]
            for arm, names in targets.items()
        }
    )


def layers_of(directory: Path) -> set[str]:
    """Names of the layers with a matrix of weights, from the index or the headers of the safetensors files."""
    names: set[str] = set()
    for index in directory.glob(f"*{INDEX_SUFFIX}"):
        names |= set(read_json(index).get("weight_map", {}))
    if not names:
        for file in directory.glob("*.safetensors"):
            names |= {name for name, tensor in header_of(file).items() if len(tensor.get("shape", ())) > 1}
    return {name.split(".")[-2] for name in names if name.endswith(".weight") and "." in name} - {"lm_head"}


def header_of(file: Path) -> dict[str, Any]:
    """Name -> type, shape and place of every tensor of a safetensors file; {} for a file that is none.

    The file begins with the header's length in eight bytes, least significant first; the header is JSON.
    """
    with file.open("rb") as handle:
        length = int.from_bytes(handle.read(8), "little")
        if not 0 < length < file.stat().st_size:
            return {}
        try:
            header: dict[str, Any] = json.loads(handle.read(length))
        except ValueError:  # reading the weights reports the damage
            return {}
    return {name: tensor for name, tensor in header.items() if name != "__metadata__"}
