"""A second device for tests on machines without one: its tensors compute on the CPU and refuse to meet the CPU's.

A tensor of it says that it lies on `meta` (the only device beside the CPU for which every build of torch has autograd)
and carries its values in a CPU tensor. An operation on tensors of both raises, as it does with a GPU; a CPU tensor
without axes may take part, as with a GPU. What this cannot show: kernels, memory and the rounding of a real device.
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
"""Operations that may see tensors of both devices."""


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
    name = str(function)
    flat = tree_flatten((args, kwargs))[0]
    there = [t for t in flat if isinstance(t, Elsewhere)]
    here = [t for t in flat if isinstance(t, torch.Tensor) and not isinstance(t, Elsewhere)]
    assert not any(t.device.type == DEVICE for t in here), f"{name}: a tensor without values"
    if there and any(t.dim() for t in here) and not name.startswith(MOVES):
        raise RuntimeError(f"{name}: tensors on two devices")
    asked = [torch.device(d).type for d in (*flat, kwargs.get("device")) if isinstance(d, torch.device)]
    target = asked[0] if asked else (DEVICE if there else "cpu")
    if name.startswith("aten.copy_."):
        target = args[0].device.type
    given, named = tree_map(_on_the_cpu, (args, kwargs))
    made = function(*given, **named)
    if target != DEVICE:
        return made
    known = {id(t.values): t for t in there}  # what was written in place stays the tensor that it was

    def wrapped(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        return known[id(value)] if id(value) in known else Elsewhere(value)

    return tree_map(wrapped, made)


def _on_the_cpu(value: Any) -> Any:
    if isinstance(value, torch.device):
        return torch.device("cpu")
    return value.values if isinstance(value, Elsewhere) else value


class _Dispatch(TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(function, args, kwargs or {})


class _Literals(TorchFunctionMode):
    """`torch.tensor(values, device=...)` makes its tensor where no dispatch mode sees it."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if function is torch.tensor and "device" in kwargs:
            device = kwargs.pop("device")
            return function(*args, **kwargs).to(device)
        return function(*args, **kwargs)


@contextmanager
def other_device() -> Iterator[None]:
    """Within it, tensors can be made on `DEVICE` and moved to and from it; inference mode, which keeps operations from
    a dispatch mode, is `no_grad`."""
    with mock.patch.object(torch, "inference_mode", torch.no_grad), _Literals(), _Dispatch():
        yield


def put_there(model: Any) -> Any:
    """The model with parameters and buffers on the other device; `Module.to` would swap in tensors without values."""
    made: dict[int, torch.nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False, remove_duplicate=False)):
            if id(parameter) not in made:
                made[id(parameter)] = torch.nn.Parameter(Elsewhere(parameter.data.clone()), parameter.requires_grad)
            setattr(module, name, made[id(parameter)])
        for name, buffer in list(module.named_buffers(recurse=False)):
            setattr(module, name, Elsewhere(buffer.clone()))
    return model
