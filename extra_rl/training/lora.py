"""LoRA: low-rank adapters next to frozen weights, with peft. LoRA, arXiv 2106.09685.

The frozen weights are those of the initial policy in every iteration; the adapters are passed from one iteration to the
next. The policy that an iteration writes is the merged model, an ordinary one: initial + alpha / rank * B A. It is
always merged into the initial weights, so its rounding does not accumulate over iterations.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from extra_rl.config.section import Section
from extra_rl.errors import ConfigError, InputError
from extra_rl.models.digests import require_file
from extra_rl.models.policy import ADAPTER_FILE, Policy, load_policy, read_manifest, resolve
from extra_rl.models.protocol import CausalLM
from extra_rl.models.removed import refuse_removed
from extra_rl.tables.files import canonical_json

METADATA = "adapter"
"""Key of the adapter file's metadata: JSON of rank, alpha, targets, and the digest of the initial policy."""


class LoraConfig(Section):
    """Adapters instead of whole weights; layers that are not named here stay as in the initial policy."""

    rank: int = Field(16, ge=1, description="rank of an adapter")
    alpha: float = Field(32.0, gt=0, description="an adapter is multiplied by alpha / rank")
    targets: Literal["all_linear"] | tuple[str, ...] = Field(
        "all_linear",
        description="layers with an adapter: every linear one but the head, or names such as [q_proj, v_proj]",
    )
    dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of an adapter's inputs dropped in training; above 0 the first ratios are not 1",
    )

    @field_validator("targets")
    @classmethod
    def _names_layers(cls, targets: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if not targets or (not isinstance(targets, str) and "" in targets):
            raise ValueError("name at least one layer, for example [q_proj, v_proj], or all_linear")
        if twice := sorted({name for name in targets if not isinstance(targets, str) and targets.count(name) > 1}):
            raise ValueError(f"{twice[0]} is named twice")
        return targets


def load_adapted(initial: Path, current: Path, lora: LoraConfig, seed: int) -> tuple[Policy, Any]:
    """Return the initial policy with the adapters of the current one, and peft's model around it, which shares weights.

    Only adapters have gradients. Raises InputError where the current policy was not trained with these adapters,
    ConfigError for unknown targets.

    Args:
        initial: manifest of the policy with the frozen weights.
        current: manifest of the policy whose adapters and directory are used.
        lora: shape and targets of the adapters.
        seed: of new adapters, where the current policy is the initial one; B is 0 then, so they change nothing yet.
    """
    import torch
    from peft import LoraConfig as PeftConfig
    from peft import get_peft_model

    base = load_policy(initial)
    directory = resolve(current)
    saved = _saved(directory, initial, current, lora)
    torch.manual_seed(seed)
    settings = PeftConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules=_targets(base.model, lora),
        lora_dropout=lora.dropout,
    )
    try:
        adapted = get_peft_model(base.model, settings)
    except ValueError as error:  # a kind of layer that peft does not adapt, such as Mamba's
        raise ConfigError(f"update.lora.targets: this model's layers cannot have adapters: {error}") from error
    trained = adapter_tensors(base.model)
    for name, value in saved.items():
        trained[name].data.copy_(value)
    return replace(base, directory=directory), adapted


def adapter_tensors(model: CausalLM) -> dict[str, Any]:
    """Return the trained parameters by name: A and B of every adapter."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def write_adapter(directory: Path, trained: Mapping[str, Any], initial: Path, lora: LoraConfig) -> None:
    """Write the adapters next to a policy, with the settings and the initial policy that they belong to."""
    from safetensors.torch import save_file

    tensors = {name: value.detach().to("cpu", copy=True) for name, value in trained.items()}
    save_file(tensors, directory / ADAPTER_FILE, {METADATA: canonical_json(_identity(initial, lora))})


@contextmanager
def frozen_base(reference: Any) -> Iterator[Any]:
    """The reference model of the KL term: the model itself, or peft's model with its adapters switched off."""
    if not hasattr(reference, "disable_adapter"):
        yield reference
        return
    model = reference.get_base_model()
    # Out of training mode too: adapters' dropout must not reach the reference.
    dropped_out = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with reference.disable_adapter():
            yield model
    finally:
        for module in dropped_out:
            module.training = True


def _identity(initial: Path, lora: LoraConfig) -> dict[str, Any]:
    """Settings that cannot change within a run, and the digest of the initial policy."""
    settings = lora.model_dump(mode="json", exclude={"dropout"})
    return {**settings, "initial": read_manifest(initial)["digest"]}


def _saved(directory: Path, initial: Path, current: Path, lora: LoraConfig) -> dict[str, Any]:
    """The current policy's adapters by name; {} where it is the initial policy."""
    from safetensors import safe_open

    refuse_removed(directory)
    require_file(directory, ADAPTER_FILE)
    file = directory / ADAPTER_FILE
    if not file.is_file():
        if read_manifest(current)["digest"] == read_manifest(initial)["digest"]:
            return {}
        raise InputError(
            f"{directory} was trained without adapters, so update.lora cannot continue from it. Set update.lora to "
            "null, or start the run again."
        )
    with safe_open(file, "pt") as stored:
        found = json.loads(stored.metadata()[METADATA])
        for key, value in _identity(initial, lora).items():
            if found[key] != value:
                raise InputError(
                    f"{file} has {key} {found[key]}, but this update has {value}. Set update.lora to the values that "
                    "the run started with, or start the run again: adapters cannot change within a run."
                )
        return {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118


def _targets(model: CausalLM, lora: LoraConfig) -> str | list[str]:
    """peft's `target_modules`; ConfigError for a name that no linear layer but the head has."""
    import torch

    if lora.targets == "all_linear":
        return "all-linear"
    head = model.get_output_embeddings()
    linear = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    }
    if unknown := sorted(set(lora.targets) - linear):
        raise ConfigError(f"update.lora.targets: {unknown[0]} is not one of {', '.join(sorted(linear))}.")
    return list(lora.targets)
