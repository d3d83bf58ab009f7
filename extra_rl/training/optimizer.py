"""AdamW whose state travels with the policy: saved beside its weights, loaded by the next iteration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from extra_rl.policy import OPTIMIZER_FILE, Policy
from extra_rl.removed import refuse_removed

if TYPE_CHECKING:
    import torch
    from torch import Tensor

KEYS = ("step", "exp_avg", "exp_avg_sq")


def load_optimizer(
    policy: Policy, *, learning_rate: float, betas: tuple[float, float], weight_decay: float
) -> torch.optim.AdamW:
    """AdamW over the policy's parameters, going on from the state beside its weights where there is one.

    Raises InputError where there was one and retention has removed it: momentum would start from nothing unnoticed.
    """
    import torch
    from safetensors.torch import load_file

    named = dict(policy.model.named_parameters())
    optimizer = torch.optim.AdamW(
        named.values(), lr=learning_rate, betas=betas, weight_decay=weight_decay, foreach=True
    )
    refuse_removed(policy.directory, weights=False, optimizer=True)
    file = policy.directory / OPTIMIZER_FILE
    if file.is_file():
        saved = load_file(file)
        for name, parameter in named.items():
            if f"step/{name}" in saved:
                state = {key: saved.pop(f"{key}/{name}") for key in KEYS}
                moments = {key: value.to(parameter.device) for key, value in state.items() if key != "step"}
                optimizer.state[parameter] = {"step": state["step"], **moments}  # AdamW counts steps on the CPU
    return optimizer


def optimizer_state(optimizer: torch.optim.AdamW, model: Any) -> dict[str, Tensor]:
    """A copy of the state as named tensors on the CPU, `{step|exp_avg|exp_avg_sq}/{parameter}`."""
    return {
        f"{key}/{name}": optimizer.state[parameter][key].to("cpu", copy=True)
        for name, parameter in model.named_parameters()
        if parameter in optimizer.state
        for key in KEYS
    }


def steps_taken(optimizer: torch.optim.AdamW) -> int:
    """Optimizer steps since the warm start, over all iterations."""
    counts = [int(state["step"]) for state in optimizer.state.values() if "step" in state]
    return max(counts, default=0)
