"""AdamW whose state travels with the policy: saved next to its weights, loaded by the next iteration.

`adamw` is torch's, with float32 state. `adamw_8bit` is that of bitsandbytes: moments as 8-bit codes with a float32
scale for every 256 values (arXiv 2110.02861), a quarter of the bytes; tensors below 4,096 values stay float32.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from extra_rl.errors import ConfigError, InputError
from extra_rl.models.policy import OPTIMIZER_FILE, Policy
from extra_rl.training.optimizer_file import read_optimizer
from extra_rl.training.parallel import sharded_like, whole
from extra_rl.training.settings import UpdateSettings

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

    from extra_rl.models.protocol import CausalLM

KEYS = {
    "adamw": ("step", "exp_avg", "exp_avg_sq"),
    "adamw_8bit": ("step", "state1", "state2", "qmap1", "qmap2", "absmax1", "absmax2"),
}
"""State that each kind of optimizer keeps of a parameter."""


def load_optimizer(policy: Policy, settings: UpdateSettings) -> Optimizer:
    """Return the optimizer of the policy's trained parameters, with the state next to its weights where there is one.

    Raises InputError where the state was removed or lost, or belongs to another kind or to other parameters;
    ConfigError where bitsandbytes is required and not installed.
    """
    kind = settings.optimizer
    named = {name: parameter for name, parameter in policy.model.named_parameters() if parameter.requires_grad}
    options = {"lr": settings.learning_rate, "betas": settings.betas, "weight_decay": settings.weight_decay}
    optimizer = make_optimizer(kind, named.values(), **options)
    saved = read_optimizer(policy.directory)
    for name, parameter in named.items():
        found = {key: saved.pop(f"{key}/{name}") for key in KEYS[kind] if f"{key}/{name}" in saved}
        if found:
            step = found.pop("step")  # torch counts in a tensor on the CPU, bitsandbytes in a number
            state = {key: sharded_like(value, parameter) for key, value in found.items()}
            optimizer.state[parameter] = {"step": step if kind == "adamw" else int(step), **state}
    if saved:
        raise InputError(
            f"{policy.directory / OPTIMIZER_FILE} contains {next(iter(saved))}, which update.optimizer: {kind} does "
            "not use for the parameters that are trained. Set update.optimizer and update.lora to the values that "
            "wrote it, or start the run again: neither can change within a run."
        )
    return optimizer


def make_optimizer(kind: str, parameters: Iterable[Tensor], **options: Any) -> Optimizer:
    """Return AdamW of that kind without a state. options: lr, betas, weight_decay."""
    import torch

    if kind == "adamw":
        trained = list(parameters)
        whole_on_cpu = all(p.device.type == "cpu" and type(p) is torch.nn.Parameter for p in trained)
        # Fused: one pass over memory instead of a dozen; a step of 135 million weights takes a fifth of the time.
        # Shards of several processes have no such kernel on a CPU.
        return torch.optim.AdamW(trained, **options, foreach=not whole_on_cpu, fused=whole_on_cpu)
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError:
        raise ConfigError(
            "update.optimizer: adamw_8bit needs bitsandbytes: pip install 'extra-rl[adam8bit]', or set adamw."
        ) from None
    optimizer: Optimizer = AdamW8bit(parameters, **options)
    return optimizer


def optimizer_state(
    optimizer: Optimizer, model: CausalLM, *, keep: bool = True, copy: bool = True
) -> dict[str, Tensor]:
    """Return the state as named tensors on the CPU, `{step|exp_avg|exp_avg_sq}/{parameter}` for AdamW.

    Args:
        optimizer: of the model's parameters.
        model: gives the names of the parameters.
        keep: false returns {}; a process that does not save still takes part in gathering shards.
        copy: false returns the optimizer's own tensors where possible, for a state that is written before the next
            step changes it.
    """
    import torch

    state: dict[str, Tensor] = {}
    taken: set[int] = set()
    for name, parameter in model.named_parameters():
        for key, found in optimizer.state[parameter].items() if parameter in optimizer.state else ():
            value = whole(torch.as_tensor(found))
            if keep:
                shared = value.data_ptr() in taken  # a table that parameters have in common (8 bits): written for each
                taken.add(value.data_ptr())
                state[f"{key}/{name}"] = value.to("cpu", copy=copy or shared)
    return state


def steps_taken(optimizer: Optimizer) -> int:
    """Return the number of optimizer steps since the warm start, over all iterations."""
    counts = [int(state["step"]) for state in optimizer.state.values() if "step" in state]
    return max(counts, default=0)
