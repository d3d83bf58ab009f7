"""The GPUs of this machine as the driver's management library (NVML) lists them, in the order of `nvidia-smi`.

Unlike CUDA's own count, asking NVML makes no CUDA context and does not read CUDA_VISIBLE_DEVICES for good: both would
come too early for a process that has yet to choose its device.
"""

from __future__ import annotations

import ctypes

UUID_BYTES = 96
"""NVML_DEVICE_UUID_V2_BUFFER_SIZE, the longest."""


def gpu_uuids() -> list[str]:
    """UUID of every GPU that this process may use (a container or Slurm job sees its own only); none without NVML."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return []
    if nvml.nvmlInit_v2() != 0:
        return []
    try:
        count = ctypes.c_uint(0)
        if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
            return []
        found = [_uuid(nvml, index) for index in range(count.value)]
    finally:
        nvml.nvmlShutdown()
    return found


def _uuid(nvml: ctypes.CDLL, index: int) -> str:
    """The GPU's UUID, or its index where the driver does not tell (a device that has failed keeps its place)."""
    device, text = ctypes.c_void_p(), ctypes.create_string_buffer(UUID_BYTES)
    if (
        nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(device)) != 0
        or nvml.nvmlDeviceGetUUID(device, text, ctypes.c_uint(UUID_BYTES)) != 0
    ):
        return str(index)
    return text.value.decode("ascii")
