"""The parts of a causal language model, derived from its own code: layers, head, and the transform of its logits.

No family is named here. The transform between head and logits (Gemma's soft cap, Granite's and Cohere's scale) is
observed: the output of the head is replaced by chosen numbers, and the model's own forward pass transforms them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from extra_rl.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

    from extra_rl.models.protocol import CausalLM

PLACES = (1e6, 1e-2, 1.0, -1.0, 30.0, -30.0, 5.0, -5.0, 0.1, -100.0, 300.0, -1e6)
"""Head outputs at which the transform is observed. The first reveals a cap, the second the slope at zero."""


@dataclass(frozen=True)
class Head:
    """The output layer and the transform after it: logits = scale * raw, or cap * tanh(scale * raw / cap).

    module: maps hidden states (..., D) to raw logits (..., V); in most families a `torch.nn.Linear`.
    """

    module: Any
    scale: float = 1.0
    cap: float | None = None

    def logits(self, hidden_XD: Tensor) -> Tensor:
        """Logits (..., V) of hidden states (..., D), float32."""
        import torch

        raw_XV = self.module(hidden_XD).float()
        if self.scale != 1:
            raw_XV = raw_XV * self.scale
        return raw_XV if self.cap is None else self.cap * torch.tanh(raw_XV / self.cap)


def backbone(model: CausalLM) -> Any:
    """The model without its head, which maps token ids to `last_hidden_state`. ModelError where there is none."""
    body = model.base_model
    if body is model:
        raise ModelError(
            f"{type(model).__name__} has no separate body and head (base_model_prefix), as this path needs."
        )
    return body


def decoder_layers(model: CausalLM) -> list[Any]:
    """The decoder layers in order: the longest list of modules below the model. ModelError where there is none."""
    import torch

    lists = [list(module) for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    if not lists:
        raise ModelError(f"{type(model).__name__} has no list of decoder layers.")
    return max(lists, key=len)


def read_head(model: CausalLM) -> Head | None:
    """The model's head with its transform; None where the transform is not a scale with or without a soft cap.

    Costs one forward pass over one token. The transform is exact in float32: where the measured number equals a number
    of the configuration, or its inverse, to 1e-6, that number is used.
    """
    import torch

    module = model.get_output_embeddings()
    if module is None or model.base_model is model:
        return None
    seen: dict[str, Tensor] = {}

    def keep_hidden(_: Any, __: Any, output: Any) -> None:
        seen["hidden"] = output.last_hidden_state

    def replace_raw(_: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        seen["input"] = inputs[0]
        # The vocabulary is filled with the chosen numbers, repeated; the forward pass continues with them.
        places = torch.tensor(PLACES, device=output.device)
        seen["raw"] = places.repeat(-(-output.shape[-1] // len(PLACES)))[: output.shape[-1]].expand(output.shape)
        return seen["raw"].clone()

    hooks = [model.base_model.register_forward_hook(keep_hidden), module.register_forward_hook(replace_raw)]
    try:
        with torch.inference_mode():
            token_11 = torch.ones(1, 1, dtype=torch.long, device=next(model.parameters()).device)
            final = model(input_ids=token_11, use_cache=False).logits
    finally:
        for hook in hooks:
            hook.remove()
    # Some families have a projection between the last hidden state and the head; their head is not explained.
    if set(seen) != {"hidden", "input", "raw"} or not torch.equal(seen["hidden"], seen["input"]):
        return None
    found = _fitted(seen["raw"].flatten(), final.flatten(), list(_numbers(model.config.to_dict())))
    return None if found is None else Head(module, *found)


def _fitted(raw_V: Tensor, final_V: Tensor, numbers: list[float]) -> tuple[float, float | None] | None:
    """Scale and cap with which `raw_V` becomes `final_V`; None where there are none. raw_V begins with PLACES."""
    import torch

    if final_V.shape != raw_V.shape:
        return None
    raw_V, final_V = raw_V.double(), final_V.double()
    scale = _snapped(float(final_V[1] / raw_V[1]), numbers) if len(raw_V) > 1 else 1.0
    if torch.allclose(scale * raw_V, final_V, rtol=1e-5):
        return scale, None
    # tanh is 1 at the first place, 1e6, so the result is the cap. At the second, 0.01, the scale follows by inversion.
    cap = _snapped(float(final_V[0]), numbers)
    if cap > abs(float(final_V[1])):
        scale = _snapped(cap * math.atanh(float(final_V[1]) / cap) / float(raw_V[1]), numbers)
    if cap > 0 and torch.allclose(cap * torch.tanh(scale * raw_V / cap), final_V, rtol=1e-4, atol=1e-6):
        return scale, cap
    return None


def _snapped(value: float, numbers: list[float]) -> float:
    """The number of the configuration, or the inverse of one, that equals `value` to 1e-6; else `value`."""
    for number in (1.0, *numbers, *(1 / number for number in numbers if number)):
        if abs(value - number) <= 1e-6 * abs(number):
            return float(number)
    return value


def _numbers(values: object) -> Iterator[float]:
    """All numbers of a nested configuration."""
    if isinstance(values, Mapping):
        for value in values.values():
            yield from _numbers(value)
    elif isinstance(values, int | float) and not isinstance(values, bool):
        yield float(values)


def windows(model: CausalLM) -> list[int]:
    """The attention windows and chunks in the configuration, in tokens, ascending.

    Keys such as `max_window_layers` and `sliding_window_pattern` count layers and are ignored.
    """
    named = model.config.get_text_config().to_dict()
    names = [
        key for key in named if ("window" in key or "chunk" in key) and "layer" not in key and "pattern" not in key
    ]
    return sorted({named[key] for key in names if type(named[key]) is int and named[key] > 0})


def context(config: Any) -> int | None:
    """The longest sequence in tokens that a model with this configuration reads; None without a limit.

    With the rotary scalings `dynamic` and `longrope`, the frequencies depend on the longest sequence of a batch once it
    exceeds the original context. Results then depend on other sequences and on the content of the cache, so there is no
    single reference for a fast path. The original context is the limit then.
    """
    text = config.get_text_config()
    try:
        named = getattr(text, "max_position_embeddings", None)
    except NotImplementedError:  # XLNet has no limit and raises this
        named = None
    limits = [int(named)] if named and named > 0 else []
    scaling = getattr(text, "rope_parameters", None) or {}
    for one in (scaling, *(part for part in scaling.values() if isinstance(part, Mapping))):
        kind = str(one.get("rope_type", ""))
        original = one.get("original_max_position_embeddings") or named
        if original and ("dynamic" in kind or kind == "longrope"):
            limits.append(int(original))
    return min(limits, default=None)


def without_dropout(model: CausalLM) -> None:
    """Set the model to evaluation mode for training: the policy that is trained is the one that sampled, without
    dropout and router noise.

    Two kinds of modules stay in training mode: the dropout of adapters, which the configuration requests explicitly,
    and the checkpointed layers themselves, because transformers checkpoints a layer only in training mode. While a
    checkpointed layer computes it is in evaluation mode, because some apply dropout themselves (OPT, Falcon).
    """
    model.eval()
    for name, module in model.named_modules():
        if getattr(module, "gradient_checkpointing", False):
            module.training = True
            if "extra_trains" not in vars(module):
                module.register_forward_pre_hook(_evaluates)
                module.register_forward_hook(_as_before, always_call=True)
            module.extra_trains = True  # type: ignore[assignment]
        elif "lora_dropout" in name.split("."):
            module.training = True


def _evaluates(module: Any, _: Any) -> None:
    """Forward pre-hook: evaluation mode, with the previous mode stored."""
    module.extra_trains, module.training = module.training, False


def _as_before(module: Any, _: Any, __: Any) -> None:
    """Forward hook: the stored mode again."""
    module.training = module.extra_trains
