"""Device memory that vLLM takes, and how many rows that leaves room for.

Its engine is not counted but configured: it takes the share of a device that it is told to, whatever it samples.
Source: vLLM's `gpu_memory_utilization`; what it keeps asleep is assumed.
"""

from __future__ import annotations

from extra_rl.planning.memory import BYTES
from extra_rl.planning.shapes import Shape

ASLEEP = 2e9
"""Bytes that a sleeping engine is assumed to keep on a device: its context, CUDA graphs, buffers."""


def engine_bytes(shape: Shape, *, precision: str, share: float, device: float, devices: int) -> dict[str, float]:
    """Of one device while the engine samples: `share` of the `device` bytes. The weights are divided by the `devices`
    that one engine spans; the rest is for keys and values, less activations and CUDA graphs (some GB)."""
    weights = BYTES[precision] * shape.parameters / devices
    return {"weights": weights, "keys and values": max(0.0, share * device - weights)}


def engine_rows(shape: Shape, parts: dict[str, float], *, precision: str, devices: int, tokens: float) -> int:
    """Rows of so many tokens each whose keys and values an engine with these parts holds at once."""
    return int(devices * parts["keys and values"] / (tokens * shape.cache_bytes(BYTES[precision])))
