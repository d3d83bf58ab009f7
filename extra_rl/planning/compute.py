"""Floating-point operations, bytes read while decoding, and the hours that they take on a device.

A matrix product of a weight costs 2 operations a parameter and token, so a forward pass is 2ND and a training step,
with the backward pass, 6ND (8ND where gradient checkpointing repeats the forward pass). Attention adds
4 x layers x heads x head_dim for every pair of a query and a key that is computed; a pass over n tokens computes n^2
of them (the masked half is computed too), decoding T tokens after a context of P computes TP + T^2/2. The head runs
on response tokens only. Source: Kaplan et al. 2020 (2ND, 6ND) and Chowdhery et al. 2022, appendix B (attention).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from extra_rl.planning.devices import Device
from extra_rl.planning.memory import BYTES, Lengths
from extra_rl.planning.shapes import Shape


@dataclass(frozen=True)
class Speed:
    """utilisation: share of a device's peak rate and bandwidth that is reached. step_seconds: least time of one
    decoding step, which launches hundreds of kernels whatever the batch."""

    device: Device
    utilisation: float
    step_seconds: float


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


def decoding(shape: Shape, sequences: float, contexts: float, lengths: Lengths) -> float:
    """Sampling: each distinct context is read once, then every sequence goes on token by token."""
    prefill = contexts * operations(shape, tokens=lengths.prompt, pairs=lengths.prompt**2, logits=1)
    pairs = lengths.response * lengths.prompt + lengths.response**2 / 2
    return prefill + sequences * operations(shape, tokens=lengths.response, pairs=pairs, logits=lengths.response)


def decoding_seconds(
    shape: Shape, speed: Speed, precision: str, *, sequences: float, contexts: float, lengths: Lengths, steps: float
) -> float:
    """The longest of three: operations, bytes read (weights at every step, a row's keys and values at each of its
    tokens), and the steps' own time. steps: decoding steps of all batches together."""
    size = BYTES[precision]
    work = decoding(shape, sequences, contexts, lengths)
    cache = sequences * shape.cache_bytes(size) * (lengths.response * lengths.prompt + lengths.response**2 / 2)
    read = steps * size * shape.parameters + cache
    device = speed.device
    return max(
        work / (device.peak(precision) * speed.utilisation),
        read / (device.bandwidth * speed.utilisation),
        steps * speed.step_seconds,
    )


def batches(sequences: float, rows: int) -> int:
    """Batches of at most `rows` sequences."""
    return math.ceil(sequences / rows)
