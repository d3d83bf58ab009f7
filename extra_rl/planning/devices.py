"""What accelerators can do, from their makers' data sheets: dense peak rates, without sparsity."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """bfloat16, float32: peak FLOP/s of matrix products (float32 without TF32, which torch does not use by default);
    bandwidth: bytes per second of its memory; memory: bytes."""

    name: str
    bfloat16: float
    float32: float
    bandwidth: float
    memory: float

    def peak(self, precision: str) -> float:
        return self.bfloat16 if precision == "bfloat16" else self.float32


def _device(name: str, bfloat16: float, float32: float, bandwidth: float, memory: float) -> Device:
    """From TFLOP/s, TFLOP/s, GB/s, GB."""
    return Device(name, bfloat16 * 1e12, float32 * 1e12, bandwidth * 1e9, memory * 1e9)


DEVICES = {
    "a100": _device("A100 SXM 80 GB", 312, 19.5, 2039, 80),
    "h100": _device("H100 SXM 80 GB", 989, 67, 3350, 80),
    "h200": _device("H200 SXM 141 GB", 989, 67, 4800, 141),
    "l40s": _device("L40S 48 GB", 362, 91.6, 864, 48),
    "rtx4090": _device("GeForce RTX 4090 24 GB", 165, 82.6, 1008, 24),
}
"""By the name that `extra plan --device` takes. Source: NVIDIA's data sheets of A100, H100, H200 and L40S, and the Ada
GPU architecture paper for the RTX 4090 (bfloat16 with float32 accumulation)."""

ROOM = 0.9
"""Share of a device's memory that a stage may plan with; the rest is the context, fragments and kernels' buffers."""
