"""The device of a stage: taken for this process alone where it is a GPU, and made known to torch.

A configuration only names the device (`compute`). Whoever computes calls `acquire`, before anything touches CUDA.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from extra_rl.config.sections import ComputeConfig
from extra_rl.devices.locks import take_free
from extra_rl.errors import ConfigError

VISIBLE = "CUDA_VISIBLE_DEVICES"

UUID_BYTES = 96
"""NVML_DEVICE_UUID_V2_BUFFER_SIZE, the longest."""

_TAKEN: list[str] = []
"""Entries of CUDA_VISIBLE_DEVICES that `take_cuda` has taken for this process."""
_TAKEN_AT: list[float] = []
"""When it took them, by `time.perf_counter`; empty before."""


def acquire(compute: ComputeConfig, devices: int = 1) -> str:
    """Set torch's threads, take the devices that the section names, and return `cpu` or `cuda`.

    Where that is cuda, `devices` free ones are taken until this process ends (`take_cuda`); a second call takes no
    more. OMP_NUM_THREADS would be ignored after a fork, so the threads are set here. Raises ConfigError where cuda is
    required and torch sees none, or fewer than `devices`.
    """
    import torch

    torch.set_num_threads(compute.threads)
    if compute.device != "cpu" and torch.version.cuda:
        take_cuda(devices)  # before torch initialises CUDA, which reads CUDA_VISIBLE_DEVICES once
    sees_cuda = compute.device != "cpu" and torch.cuda.is_available()
    if compute.device == "cuda" and not sees_cuda:
        raise ConfigError(
            "compute.device is cuda, but torch sees no CUDA device here: use auto or cpu, or check the driver, "
            f"{VISIBLE} and the build of torch ({torch.__version__})."
        )
    # The float32 head on tensor cores, in TF32. A stage before this one in the same process may have left it otherwise.
    torch.set_float32_matmul_precision("high" if sees_cuda and compute.precision == "bfloat16" else "highest")
    return "cuda" if sees_cuda else "cpu"


def take_cuda(count: int = 1) -> list[str]:
    """Take `count` free CUDA devices for this process, and hide the others from it (CUDA_VISIBLE_DEVICES).

    Call it before anything touches CUDA, which reads the variable once. Waits, and says so, while others use them. A
    second call returns the same devices. Where the driver lists no device and the variable names none, none is taken.
    Raises ConfigError when `count` exceeds the devices that this process may use.
    """
    if _TAKEN:
        if count > len(_TAKEN):
            raise ConfigError(f"{count} CUDA devices are required, but this process already works on {len(_TAKEN)}.")
        return list(_TAKEN)
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # the order of the indices of NVML and nvidia-smi
    entry_of = {key: entry for entry, key in visible_devices().items()}
    if not entry_of:
        return []
    listed = ",".join(entry_of.values())
    if count > len(entry_of):
        raise ConfigError(
            f"{count} CUDA devices are required (sampling.engine.tensor_parallel, update.processes), but this process "
            f"may use {len(entry_of)} ({VISIBLE}: {listed}). Require fewer, or give the job more."
        )
    taken = take_free(list(entry_of), count, lock_folder(), wait=False)
    if taken is None:
        print(f"waiting for {count} free CUDA device(s) of {listed} ...", file=sys.stderr, flush=True)
        taken = take_free(list(entry_of), count, lock_folder()) or []
    _TAKEN[:] = [entry_of[key] for key in taken]
    _TAKEN_AT[:] = [time.perf_counter()]
    os.environ[VISIBLE] = ",".join(_TAKEN)
    return list(_TAKEN)


def device_seconds(since: float) -> float:
    """Seconds for which this process has held CUDA devices, times their number; 0 without one.

    Waiting for a free device does not count. since: time of `time.perf_counter` from which it counts.
    """
    return len(_TAKEN) * (time.perf_counter() - max(since, *_TAKEN_AT)) if _TAKEN else 0.0


def lock_folder() -> Path:
    """The same for all processes of a user on a machine; TMPDIR and XDG_RUNTIME_DIR differ in batch and cron jobs."""
    return Path(f"/tmp/extra-devices-{os.getuid()}")


def visible_devices() -> dict[str, str]:
    """Entry of CUDA_VISIBLE_DEVICES -> the name of its lock, for the devices that this process may use, in order.

    Without the variable the entries are 0, 1, ... A lock is named after the UUID, which is the same in every container
    and Slurm job of a machine; indices are not. Where NVML does not list the entry, it is named after the entry itself.
    """
    uuids = gpu_uuids()
    named = os.environ.get(VISIBLE)
    entries = [str(index) for index in range(len(uuids))] if named is None else named.split(",")
    found: dict[str, str] = {}
    for entry in map(str.strip, entries):
        number = int(entry) if entry.lstrip("-").isdecimal() else None
        if not entry or (number is not None and (number < 0 or number >= len(uuids) > 0)):
            break  # as CUDA does: it ignores everything after the first invalid entry
        found[entry] = uuids[number] if number is not None and uuids else _whole_uuid(entry, uuids)
    return found


def _whole_uuid(entry: str, uuids: Sequence[str]) -> str:
    """CUDA accepts the beginning of a UUID."""
    return next((uuid for uuid in uuids if uuid.startswith(entry)), entry)


def gpu_uuids() -> list[str]:
    """UUID of every GPU that this process may use (a container or Slurm job sees only its GPUs); none without NVML.

    The driver's management library lists them in the order of `nvidia-smi`. Unlike CUDA's own count, NVML creates no
    CUDA context and does not read CUDA_VISIBLE_DEVICES for good: both would come too early for a process that has yet
    to choose its device.
    """
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
        return [_uuid(nvml, index) for index in range(count.value)]
    finally:
        nvml.nvmlShutdown()


def _uuid(nvml: ctypes.CDLL, index: int) -> str:
    """The GPU's UUID, or its index where the driver does not return one (a failed device keeps its place)."""
    device, text = ctypes.c_void_p(), ctypes.create_string_buffer(UUID_BYTES)
    if (
        nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(device)) != 0
        or nvml.nvmlDeviceGetUUID(device, text, ctypes.c_uint(UUID_BYTES)) != 0
    ):
        return str(index)
    return text.value.decode("ascii")
