"""Parameters that `update` trains: those that peft really adds."""

from __future__ import annotations

from typing import Any

import pytest

from extra_rl.planning.shapes import Shape
from extra_rl.planning.trained import optimizer_bytes, trained_parameters
from tests.models import random_qwen3

SHAPE = Shape(40, hidden=32, layers=2, heads=4, kv_heads=2, head_dim=8, intermediate=64)


@pytest.mark.parametrize("targets", ["all_linear", ["q_proj", "down_proj"], ["k_proj", "o_proj", "up_proj"]])
def test_adapters_have_as_many_parameters_as_planned(targets: Any) -> None:
    from peft import LoraConfig, get_peft_model

    names = "all-linear" if targets == "all_linear" else targets
    found, _ = get_peft_model(random_qwen3(), LoraConfig(r=3, target_modules=names)).get_nb_trainable_parameters()
    update = {"lora": {"rank": 3, "targets": targets}, "optimizer": "adamw"}
    assert trained_parameters(update, SHAPE) == found
    assert optimizer_bytes(update, SHAPE) == 8 * found
    assert trained_parameters({"lora": None}, SHAPE) == sum(p.numel() for p in random_qwen3().parameters())
