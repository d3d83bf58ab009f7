"""Mixtures of experts route per token: neither padding nor other rows change the experts of a token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from extra_rl.scoring.batches import TokenSequence
from extra_rl.scoring.layout import chosen, token_statistics
from tests.zoo.families import shared
from tests.zoo.reference import sequences

ROUTERS = {"Qwen3-MoE": "gate", "Mixtral": "gate", "gpt-oss": "router", "DeepSeek-V3": "gate"}


def routed(model: Any, router: str, compute: Callable[[], object]) -> list[torch.Tensor]:
    """The experts that each router chose while `compute` ran: (tokens, experts a token) a layer, sorted."""
    seen: list[torch.Tensor] = []
    hooks = [
        module.register_forward_hook(lambda _, __, output: seen.append(output[2].sort(-1).values))
        for name, module in model.named_modules()
        if name.endswith(f"mlp.{router}")
    ]
    try:
        with torch.inference_mode():
            compute()
    finally:
        for hook in hooks:
            hook.remove()
    assert len(seen) == len(hooks) >= 2
    return seen


@pytest.mark.parametrize("name", ROUTERS)
def test_padding_and_neighbours_do_not_change_the_experts(name: str) -> None:
    """Compares the tokens of a padded batch with those of each sequence in a separate forward pass."""
    model, router = shared(name), ROUTERS[name]
    assert chosen("padded", model) == "padded"

    def experts(batch: list[TokenSequence]) -> list[torch.Tensor]:
        return routed(model, router, lambda: token_statistics(model, batch, 1.0, "float32", "padded"))

    together, width = experts(sequences()), max(map(len, sequences()))
    for row, sequence in enumerate(sequences()):
        for layer, alone in zip(together, experts([sequence]), strict=True):
            start = row * width
            assert torch.equal(layer[start : start + len(sequence)], alone)


@pytest.mark.parametrize("name", ROUTERS)
def test_every_expert_is_used(name: str) -> None:
    """Otherwise equal experts would prove nothing."""
    model = shared(name)
    for layer in routed(model, ROUTERS[name], lambda: token_statistics(model, sequences(), 1.0, "float32", "padded")):
        assert set(layer.flatten().tolist()) == set(range(4))
