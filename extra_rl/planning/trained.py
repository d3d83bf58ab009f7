"""What `update` trains and remembers: parameters with a gradient, and bytes of the optimizer's state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from extra_rl.planning.shapes import Shape

MOMENTS = {"adamw": 8.0, "adamw_8bit": 2 * (1 + 4 / 256)}
"""Bytes a trained parameter: two float32 moments; or two bytes, with a float32 scale for every 256 values."""


def trained_parameters(update: Mapping[str, Any], shape: Shape) -> int:
    """All, or those of `update.lora`'s adapters: rank * (inputs + outputs) of every target."""
    lora = update["lora"]
    if lora is None:
        return shape.parameters
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    ends = {
        "q_proj": shape.hidden + queries,
        "k_proj": shape.hidden + keys,
        "v_proj": shape.hidden + keys,
        "o_proj": queries + shape.hidden,
        "gate_proj": shape.hidden + shape.intermediate,
        "up_proj": shape.hidden + shape.intermediate,
        "down_proj": shape.intermediate + shape.hidden,
    }
    targets = ends if lora["targets"] == "all_linear" else lora["targets"]
    return int(shape.layers * lora["rank"] * sum(ends.get(name, 0) for name in targets))


def optimizer_bytes(update: Mapping[str, Any], shape: Shape) -> float:
    """Of the optimizer's state, in memory and as it is stored."""
    return MOMENTS[update["optimizer"]] * trained_parameters(update, shape)


def adapter_bytes(update: Mapping[str, Any], shape: Shape) -> float:
    """Of the adapters beside a policy, in float32; 0 where all weights are trained."""
    return 0.0 if update["lora"] is None else 4.0 * trained_parameters(update, shape)
