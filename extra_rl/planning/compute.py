"""Floating-point operations, bytes read while decoding, and the hours that they take on a device.

A matrix product of a weight costs 2 operations a parameter and token, so a forward pass is 2ND and a training step,
with the backward pass, 6ND (8ND where gradient checkpointing repeats the forward pass). Attention adds
4 x layers x heads x head_dim for every pair of a query and a key that is computed; a pass over n tokens computes n^2
of them (the masked half is computed too), decoding T tokens after a context of P computes TP + T^2/2, more where
lengths differ (`Call.behind`). The head runs on response tokens only.
Source: Kaplan et al. 2020 (2ND, 6ND) and Chowdhery et al. 2022, appendix B (attention).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from extra_rl.planning.devices import Device
from extra_rl.planning.memory import BYTES, Lengths
from extra_rl.planning.shapes import Shape
from extra_rl.planning.steps import Call, decoding_steps, refills


@dataclass(frozen=True)
class Decoder:
    """Assumed of a sampling backend. step_seconds: least time of one decoding step, whatever the batch: launching
    kernels, scheduling, drawing. utilisation: share of a device's peak rate and bandwidth that decoding reaches."""

    step_seconds: float
    utilisation: float


DECODERS = {"transformers": Decoder(0.030, 0.4), "vllm": Decoder(0.010, 0.5)}
"""Assumed, not measured: a decoding loop over transformers launches hundreds of kernels a step; vLLM replays a CUDA
graph, schedules on the host, and draws row by row because every request has a seed of its own."""


@dataclass(frozen=True)
class Speed:
    """utilisation: share of a device's peak rate that scoring and training reach; decoders: by backend."""

    device: Device
    utilisation: float
    decoders: Mapping[str, Decoder]


@dataclass(frozen=True)
class Engine:
    """What decodes. rows: sequences together, at most; devices: that one engine spans (tensor parallel)."""

    backend: str
    precision: str
    rows: float
    devices: int = 1


def layer_matrices(shape: Shape) -> int:
    """Parameters of the layers that are factors of a matrix product: all but the norms."""
    norms = 2 * shape.hidden + (2 * shape.head_dim if shape.qk_norm else 0)
    return shape.layer_parameters - shape.layers * norms - shape.hidden


def operations(shape: Shape, *, tokens: float, pairs: float, logits: float) -> float:
    """Of a forward pass over `tokens`, with so many pairs of query and key and so many rows of logits."""
    attention = 4.0 * shape.layers * shape.heads * shape.head_dim * pairs
    return 2.0 * layer_matrices(shape) * tokens + attention + 2.0 * shape.head_parameters * logits


def full_pass(shape: Shape, sequences: float, lengths: Lengths) -> float:
    """Forward over whole sequences, logits for their responses: scoring."""
    return sequences * operations(shape, tokens=lengths.total, pairs=lengths.total**2, logits=lengths.response)


def training_pass(shape: Shape, sequences: float, lengths: Lengths, *, checkpointing: bool) -> float:
    """Forward and backward; checkpointing repeats the layers' forward pass, not the head's."""
    again = sequences * operations(shape, tokens=lengths.total, pairs=lengths.total**2, logits=0) * checkpointing
    return 3 * full_pass(shape, sequences, lengths) + again


def decoding(shape: Shape, call: Call) -> float:
    """Sampling: each distinct context is read once, then every sequence goes on token by token."""
    prefill = call.contexts * operations(shape, tokens=call.prompt, pairs=call.prompt**2, logits=1)
    pairs = call.mean * (call.prompt + call.behind)
    return prefill + call.sequences * operations(shape, tokens=call.mean, pairs=pairs, logits=call.mean)


def decoding_seconds(shape: Shape, speed: Speed, engine: Engine, call: Call) -> float:
    """By the clock, the longest of three: operations, bytes read (weights at every step, keys and values behind every
    token), and the steps' own time.

    The transformers sampler pads: where it refills, a row reads as many columns as the oldest, nearly the longest.
    """
    if not call.sequences:
        return 0.0
    size, device = BYTES[engine.precision], _together(speed.device, engine.devices)
    assumed = speed.decoders[engine.backend]
    steps = decoding_steps(call, engine.rows, engine.backend)
    pads = engine.backend == "transformers" and refills(call, engine.rows)
    columns = call.prompt + (call.longest if pads else call.behind)
    read = steps * size * shape.parameters + call.sequences * call.mean * columns * shape.cache_bytes(size)
    return max(
        decoding(shape, call) / (device.peak(engine.precision) * assumed.utilisation),
        read / (device.bandwidth * assumed.utilisation),
        steps * assumed.step_seconds,
    )


def _together(device: Device, count: int) -> Device:
    return replace(
        device,
        bfloat16=count * device.bfloat16,
        float32=count * device.float32,
        bandwidth=count * device.bandwidth,
        memory=count * device.memory,
    )
