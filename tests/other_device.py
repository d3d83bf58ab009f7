"""A simulated second device for tests without a GPU. Its tensors compute on the CPU, but cannot be mixed with CPU
tensors.

A tensor on it reports the device `meta` (the only device other than the CPU for which every build of torch has
autograd) and stores its values in a CPU tensor. As with a GPU, an operation on tensors of both devices raises an error,
unless the CPU tensor has no axes. Kernels, memory and rounding of a real device are not simulated.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = "meta"
MOVES = ("aten.to.", "aten._to_copy.", "aten.copy_.")
"""Operations that accept tensors of both devices."""


class Elsewhere(torch.Tensor):
    """A tensor on the other device."""

    values: torch.Tensor

    @staticmethod
    def __new__(cls, values: torch.Tensor) -> Any:
        made = torch.Tensor._make_wrapper_subclass(
            cls, values.size(), strides=values.stride(), dtype=values.dtype, device=torch.device(DEVICE)
        )
        made.values = values.detach()
        return made

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(function, args, kwargs or {})

    def tolist(self) -> Any:
        return self.values.tolist()


def _compute(function: Any, args: Any, kwargs: Any) -> Any:
    """The operation on the CPU values, with its result on the device on which it belongs."""
    name = str(function)
    flat = tree_flatten((args, kwargs))[0]
    on_device = [t for t in flat if isinstance(t, Elsewhere)]
    on_cpu = [t for t in flat if isinstance(t, torch.Tensor) and not isinstance(t, Elsewhere)]
    assert not any(t.device.type == DEVICE for t in on_cpu), f"{name}: a tensor without values"
    if on_device and any(t.dim() for t in on_cpu) and not name.startswith(MOVES):
        raise RuntimeError(f"{name}: tensors on two devices")
    requested = [torch.device(d).type for d in (*flat, kwargs.get("device")) if isinstance(d, torch.device)]
    target = requested[0] if requested else (DEVICE if on_device else "cpu")
    if name.startswith("aten.copy_."):
        target = args[0].device.type
    cpu_args, cpu_kwargs = tree_map(_to_cpu, (args, kwargs))
    result = function(*cpu_args, **cpu_kwargs)
    if target != DEVICE:
        return result
    known = {id(t.values): t for t in on_device}  # an operation in place returns the same tensor

    def wrapped(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        return known[id(value)] if id(value) in known else Elsewhere(value)

    return tree_map(wrapped, result)


def _to_cpu(value: Any) -> Any:
    if isinstance(value, torch.device):
        return torch.device("cpu")
    return value.values if isinstance(value, Elsewhere) else value


class _Dispatch(TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(function, args, kwargs or {})


class _Literals(TorchFunctionMode):
    """Handles `torch.tensor(values, device=...)`, which a dispatch mode does not intercept."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if function is torch.tensor and "device" in kwargs:
            device = kwargs.pop("device")
            return function(*args, **kwargs).to(device)
        return function(*args, **kwargs)


@contextmanager
def other_device() -> Iterator[None]:
    """A context in which tensors can be created on `DEVICE` and moved to and from it.

    Inference mode is replaced by `no_grad`, because dispatch modes do not intercept operations in inference mode.
    """
    with mock.patch.object(torch, "inference_mode", torch.no_grad), _Literals(), _Dispatch():
        yield


def put_there(model: Any) -> Any:
    """The model with its parameters and buffers on the other device; `Module.to` would create tensors without
    values."""
    made: dict[int, torch.nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False, remove_duplicate=False)):
            if id(parameter) not in made:
                made[id(parameter)] = torch.nn.Parameter(Elsewhere(parameter.data.clone()), parameter.requires_grad)
            setattr(module, name, made[id(parameter)])
        for name, buffer in list(module.named_buffers(recurse=False)):
            setattr(module, name, Elsewhere(buffer.clone()))
    return model
