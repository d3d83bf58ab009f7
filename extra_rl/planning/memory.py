"""A floor for the device memory of each stage that loads a model: the parts that are known exactly, in bytes.

These are weights, gradients, optimizer state, keys and values of the rows decoded together, and the layer inputs that a
backward pass keeps. A stage needs more: activations within a layer, logits, buffers of kernels, the device's context
(about 1 GB), fragmentation. `tests/planning/test_memory.py` checks the floor against the bytes that tensors take. vLLM
always takes `gpu_memory_utilization` of a device; its floor must fit into that share.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from extra_rl.planning import counts
from extra_rl.planning.counts import Sections
from extra_rl.planning.shapes import Shape

BYTES = {"float32": 4, "bfloat16": 2}
"""Bytes of a number. With `compute.precision: bfloat16` the sampler's weights have that type; scoring and update keep
float32 weights and a bfloat16 copy of the layers' weights (autocast)."""

MOMENTS = {"adamw": 8.0, "adamw_8bit": 2 * (1 + 4 / 256)}
"""Bytes of optimizer state per trained parameter: two float32 moments; or two bytes, with a float32 scale for every 256
values."""

Parts = dict[str, float]


def floors_of(sections: Sections, shape: Shape, shards: int, samples: int | None) -> dict[str, Parts]:
    """Return stage -> part -> bytes on one device, at the longest prompts and responses.

    Args:
        sections: of the arm.
        shape: of the model.
        shards: jobs that share the rollouts of a call.
        samples: of one evaluation; None where it is not known.
    """
    rollouts, evaluate = counts.at_most(sections), sections["evaluate"]
    prompt, together = counts.longest_prompt(sections), sections["choose_prefixes"]["when"] == "next_iteration"
    longest = prompt + counts.longest_response(sections)
    first_call = rollouts.sampled_fresh + rollouts.regenerated * together
    found = {
        "generate": sampler(sections, "generate", shape, math.ceil(first_call / shards), longest),
        "regenerate": sampler(sections, "generate", shape, math.ceil(rollouts.regenerated / shards), longest),
        "score_entropy": scorer(sections, shape),
        "update": update(sections, shape, longest),
        "evaluate": sampler(sections, "evaluate", shape, samples, prompt + evaluate["max_response_tokens"]),
    }
    unused = ["generate"] if not first_call else []
    unused += ["regenerate"] if together or not rollouts.regenerated else []
    return {stage: parts for stage, parts in found.items() if stage not in unused}


def sampler(sections: Sections, stage: str, shape: Shape, rows: int | None, longest: int) -> Parts:
    """Return weights, and keys and values of the longest sequence.

    Transformers decodes up to `sampling.batch_rows` such rows together; vLLM needs one row to start.

    Args:
        sections: of the arm.
        stage: whose sampling section applies.
        shape: of the model.
        rows: to sample; None where it is not known.
        longest: tokens of the longest sequence.
    """
    sampling, size = sections[stage]["sampling"], BYTES[precision_of(sections)]
    engine = sampling["backend"] == "vllm"
    devices = sampling["engine"]["tensor_parallel"] if engine else 1
    most: int = sampling["batch_rows"] if rows is None else min(rows, sampling["batch_rows"])
    return {
        "weights": size * shape.parameters / devices,
        "keys and values": (1 if engine else most) * longest * shape.cache_bytes(size) / devices,
    }


def scorer(sections: Sections, shape: Shape) -> Parts:
    """Return the weights and their bfloat16 copy."""
    return {"weights": 4.0 * shape.parameters, "cast weights": cast_bytes(sections, shape)}


def update(sections: Sections, shape: Shape, longest: int) -> Parts:
    """Return the parts of an update. `processes` share weights, gradients and optimizer state evenly (FSDP).

    The largest micro-batch has at least the tokens of the longest row.
    """
    section = sections["update"]
    lora, shared = section["lora"], section["processes"]
    trained = trained_parameters(section, shape)
    reference = section["kl_weight"] > 0 and lora is None  # else the frozen weights are the reference
    parts = {
        "weights": 4.0 * shape.parameters,
        "gradient": 4.0 * trained,
        "optimizer": optimizer_bytes(section, shape),
        "reference": 4.0 * shape.parameters * reference,
        "cast weights": cast_bytes(sections, shape) if lora is None and shared == 1 else 0.0,
    }
    return {name: size / shared for name, size in parts.items()} | {
        "layer inputs": 4.0 * shape.layers * shape.hidden * longest
    }


def cast_bytes(sections: Sections, shape: Shape) -> float:
    """Return the bytes of autocast's bfloat16 copy of the layers' weights."""
    return 2.0 * shape.layer_parameters * (precision_of(sections) == "bfloat16")


def precision_of(sections: Sections) -> str:
    """Return `compute.precision`."""
    return str(sections["generate"]["compute"]["precision"])


def trained_parameters(update: Mapping[str, Any], shape: Shape) -> int:
    """Return all parameters, or those of `update.lora`'s adapters: rank * (inputs + outputs) of every target."""
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
    """Return the bytes of the optimizer's state, in memory and on disk."""
    return MOMENTS[update["optimizer"]] * trained_parameters(update, shape)


def adapter_bytes(update: Mapping[str, Any], shape: Shape) -> float:
    """Return the bytes of the adapters next to a policy, in float32; 0 where all weights are trained."""
    return 0.0 if update["lora"] is None else 4.0 * trained_parameters(update, shape)
