"""The processes that take an optimizer step together: one (`Parallel`), or several (`Sharded`).

Several processes, one per device, shard weights, gradients and optimizer state by FSDP2
(torch.distributed.fsdp.fully_shard): one group per decoder layer and one for the rest (embedding, last norm, head).
Every process knows all rows of a mini-batch and computes its own micro-batches with the denominators of the whole
mini-batch. So denominators need no communication, and gradients are SUMMED, while FSDP's default is their mean. Only
FSDP's weights and gradients, and the metrics, pass between processes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import MethodType
from typing import TYPE_CHECKING, Any

from extra_rl.models.family import decoder_layers

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from extra_rl.models.protocol import CausalLM

PATIENCE = timedelta(hours=2)
"""How long a process waits for the others: as long as rank 0 may take to write a policy. When a process dies, torchrun
ends all of them at once, so this limit does not delay a failure."""


class Parallel:
    """One process that has the whole model and computes all micro-batches itself."""

    rank, world = 0, 1

    def __init__(self, device: str = "cpu") -> None:
        self.device = device

    def place(self, model: CausalLM, *, trained: bool = True) -> Any:
        """Return the model, placed as this process computes with it. trained: whether it will have gradients."""
        return model.to(self.device)

    def forward(self, model: CausalLM, compute: Callable[[], Tensor]) -> Tensor:
        """Return compute(), which may use any weight of the placed model directly."""
        return compute()

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, in the order of their ranks."""
        return [value]


class Sharded(Parallel):
    """This process's part of a process group that torchrun has started."""

    def __init__(self, device: str) -> None:
        import torch.distributed as dist

        super().__init__(device)
        self.rank, self.world = dist.get_rank(), dist.get_world_size()

    def place(self, model: Any, *, trained: bool = True) -> Any:
        """Shard the model in place: its parameters become DTensors, of which this process holds one shard.

        The root's method `computed` gathers the weights outside of the decoder layers before it calls its argument,
        and frees them after its backward pass, as FSDP does for a forward pass.
        """
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

        mesh = init_device_mesh(self.device.partition(":")[0], (self.world,))
        for layer in decoder_layers(model):
            fully_shard(layer, mesh=mesh)
        # Weights that only a forward pass reads need not stay gathered for a backward pass.
        fully_shard(model, mesh=mesh, reshard_after_forward=None if trained else True)
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)  # gloo has no PREMUL_SUM
        # The loss reads the head directly, outside of model.forward: it runs as a forward method that FSDP knows.
        model.computed = MethodType(_computed, model)
        register_fsdp_forward_method(model, "computed")
        return model

    def forward(self, model: Any, compute: Callable[[], Tensor]) -> Tensor:
        result: Tensor = model.computed(compute)
        return result

    def gather(self, value: Any) -> list[Any]:
        import torch.distributed as dist

        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values


def _computed(model: torch.nn.Module, compute: Callable[[], Tensor]) -> Tensor:
    return compute()


@contextmanager
def process_group(device: str) -> Iterator[Sharded]:
    """The process group that torchrun's environment variables describe.

    device: `cuda`, with one device per process and NCCL between them; or `cpu`, with gloo. After an error the group is
    not destroyed in order, because that would wait for the other processes; it ends with this process.
    """
    import torch
    import torch.distributed as dist

    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
        dist.init_process_group("nccl", timeout=PATIENCE, device_id=torch.device(device))
    else:
        dist.init_process_group("gloo", timeout=PATIENCE)
    yield Sharded(device)
    dist.barrier()
    dist.destroy_process_group()


def whole(tensor: Tensor) -> Tensor:
    """Return the whole of a tensor that may be sharded; all processes must call this together."""
    full: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return full


def sharded_like(value: Tensor, parameter: Tensor) -> Tensor:
    """Return a whole value on `parameter`'s device; this process's shard of it where `parameter` is sharded."""
    if not hasattr(parameter, "full_tensor"):
        return value.to(parameter.device)
    from torch.distributed.tensor import distribute_tensor

    mesh, placements = parameter.device_mesh, parameter.placements  # type: ignore[attr-defined]
    return distribute_tensor(value.to(parameter.device), mesh, placements, src_data_rank=None)
