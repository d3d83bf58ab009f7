"""What an optimizer step needs to know of its fellow processes; here: that there are none.

`distributed.py` has the same for several processes. Every process knows all rows of a mini-batch, so denominators need
no communication; the only things that pass between processes are FSDP's weights and gradients, and metrics.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from extra_rl.models.protocol import CausalLM


class Parallel:
    """One process that has the whole model and computes all micro-batches itself."""

    rank, world = 0, 1

    def __init__(self, device: str = "cpu") -> None:
        self.device = device

    def place(self, model: CausalLM, *, trained: bool = True) -> Any:
        """The model, where and as this process computes with it. trained: it will have gradients."""
        return model.to(self.device)

    def forward(self, model: CausalLM, compute: Callable[[], Tensor]) -> Tensor:
        """compute(), which may use any weight of the placed model directly."""
        return compute()

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, in the order of their ranks."""
        return [value]


def whole(tensor: Tensor) -> Tensor:
    """The whole of a tensor that may be sharded over the processes, on all of them: all must ask for it."""
    full: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return full


def sharded_like(value: Tensor, parameter: Tensor) -> Tensor:
    """A whole value as `parameter` is: this process's shard where that is sharded, on its device."""
    if not hasattr(parameter, "full_tensor"):
        return value.to(parameter.device)
    from torch.distributed.tensor import distribute_tensor

    mesh, placements = parameter.device_mesh, parameter.placements  # type: ignore[attr-defined]
    return distribute_tensor(value.to(parameter.device), mesh, placements, src_data_rank=None)
