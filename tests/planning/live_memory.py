"""Peak of the bytes that tensors hold while code runs on the CPU, exact and free of what the interpreter takes."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any


def peak_bytes(run: Callable[[], object]) -> int:
    """The largest sum of live tensor storages that operations within `run` made; what was there before counts 0."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    torch.set_num_threads(1)
    live: set[int] = set()
    now = peak = 0

    def freed(key: int, size: int) -> None:
        nonlocal now
        live.discard(key)
        now -= size

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal now, peak
            known = {id(t.untyped_storage()) for t in tensors((args, kwargs or {}))}
            result = function(*args, **(kwargs or {}))
            for tensor in tensors(result):
                storage = tensor.untyped_storage()
                key = storage._cdata
                if key not in live and id(storage) not in known:
                    live.add(key)
                    now += storage.nbytes()
                    weakref.finalize(storage, freed, key, storage.nbytes())
            peak = max(peak, now)
            return result

    with Watch():
        run()
    return peak


def tensors(value: Any) -> Iterator[Any]:
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors(item)
