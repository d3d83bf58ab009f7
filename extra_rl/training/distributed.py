"""Several processes, one to a device: weights, gradients and optimizer state sharded over them by FSDP2.

torch.distributed.fsdp.fully_shard, one group a decoder layer and one for the rest (embedding, last norm, head). Every
process computes its own micro-batches with the denominators of the whole mini-batch, so gradients are SUMMED, where
FSDP's own default is the mean.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import MethodType
from typing import TYPE_CHECKING, Any

from extra_rl.models.family import decoder_layers
from extra_rl.training.parallel import Parallel

if TYPE_CHECKING:
    import torch
    from torch import Tensor


PATIENCE = timedelta(hours=2)
"""How long a process waits for the others: as long as rank 0 may take to write a policy. A dead one ends all at once
(torchrun), so nothing waits for it."""


class Sharded(Parallel):
    """This process's part of a process group that torchrun has started."""

    def __init__(self, device: str) -> None:
        import torch.distributed as dist

        super().__init__(device)
        self.rank, self.world = dist.get_rank(), dist.get_world_size()

    def place(self, model: Any, *, trained: bool = True) -> Any:
        """Shards the model in place: its parameters become DTensors, of which this process holds one shard.

        The root's method `computed` gathers the weights outside of the decoder layers before what it is given runs,
        and lets go of them after its backward pass, as FSDP does for a forward pass.
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
    """The process group that torchrun's variables describe.

    device: `cuda`, one of them a process, which speak NCCL; or `cpu`, and gloo.
    On an error the group is left to die with the process: taking it down in order would wait for the others.
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
