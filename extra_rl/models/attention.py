"""Replacements for a model's attention implementation: their registration and the arguments that they must support.

transformers looks up the attention function in one registry and the function that makes its mask in another. An
attention without a mask function silently receives no mask, so both are always registered together here. Source: our
decision (O).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from extra_rl.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

    from extra_rl.models.protocol import CausalLM

HONOURED = {"softcap": "+softcap", "s_aux": "+sinks"}
"""Arguments other than mask and scale that change the result of attention, and their marks in a registered name."""
INERT = frozenset(
    # Already part of the mask, or about training, returned weights, and other kernels.
    {"sliding_window", "is_causal", "position_ids", "cache_position", "use_cache", "position_embeddings"}
    | {"output_attentions", "output_hidden_states", "output_router_logits", "num_items_in_batch", "return_dict"}
    | {"dropout", "head_mask", "layer_idx", "past_key_values", "cu_seq_lens_q", "cu_seq_lens_k"}
)
"""Arguments that may be passed and have no effect here."""


def honoured_by(implementation: str) -> frozenset[str]:
    """The arguments of HONOURED that an attention implementation uses.

    transformers' `sdpa` ignores Gemma 2's soft cap, and a replacement must compute the same numbers. A family's eager
    attention uses all arguments that the family passes.
    """
    import inspect

    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    if implementation == "eager":
        return frozenset(HONOURED)
    function = ALL_ATTENTION_FUNCTIONS.get(implementation)
    named = set(inspect.signature(function).parameters) if function else set()
    return frozenset(named & set(HONOURED))


def use_attention(model: CausalLM, name: str, attention: Callable[..., Any], mask: Callable[..., Any]) -> None:
    """Replace the model's attention by `attention(..., softcap=, s_aux=)` with masks made by `mask`.

    It uses the same further arguments as the implementation that the model was loaded with, and refuses others.

    Args:
        model: changed in place.
        name: under which the pair is registered, followed by the marks of HONOURED.
        attention: the function, with the signature of `mixed_values`.
        mask: the function that makes its mask.
    Raises ModelError where the model's attention cannot be replaced.
    """
    from transformers import AttentionInterface, AttentionMaskInterface

    honoured = honoured_by(own_attention(model))
    full = name + "".join(mark for argument, mark in HONOURED.items() if argument in honoured)
    if model.config._attn_implementation == full:
        return
    AttentionInterface.register(full, partial(_checked, attention, honoured, ignored_arguments(model)))
    AttentionMaskInterface.register(full, mask)
    model.set_attn_implementation(full)
    if model.config._attn_implementation != full:
        raise ModelError(f"{type(model).__name__} has attention of its own that cannot be exchanged.")


def own_attention(model: CausalLM) -> str:
    """Name of the implementation that the model was loaded with."""
    name: str = model.__dict__.setdefault("extra_own_attention", model.config._attn_implementation)
    return name


def ignored_arguments(model: CausalLM) -> set[str]:
    """Arguments of HONOURED that the model was seen to pass and that its own implementation ignores."""
    seen: set[str] = model.__dict__.setdefault("extra_ignored", set())
    return seen


def restore_attention(model: CausalLM) -> None:
    """Restore the implementation that the model was loaded with."""
    name = own_attention(model)
    if model.config._attn_implementation != name:
        model.set_attn_implementation(name)


def _checked(
    attention: Callable[..., Any], honoured: frozenset[str], ignored: set[str], *tensors: Any, **options: Any
) -> Any:
    """Call `attention` with the arguments that it supports.

    An argument of HONOURED that the model's own implementation ignores is ignored too, and added to `ignored`.

    Args:
        attention: the replacement.
        honoured: arguments of HONOURED that it receives.
        ignored: set that is extended.
        tensors: module, query, key, value and mask, as transformers passes them.
        options: further arguments.
    Raises ModelError for an argument that would have no effect although it may change the result.
    """
    unknown = sorted(
        name
        for name, value in options.items()
        if value is not None
        and name not in INERT
        and name not in HONOURED
        and name not in ("scaling", "attention_mask")
    )
    if unknown:
        raise ModelError(f"the model passes {', '.join(unknown)} to its attention, which this path does not support.")
    ignored |= {name for name in HONOURED if options.get(name) is not None} - honoured
    known = {name: options.get(name) for name in HONOURED if name in honoured}
    kept = {name: options[name] for name in ("scaling", "attention_mask") if name in options}
    return attention(*tensors, **kept, **known)


def mixed_values(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *,
    causal: bool,
    scaling: float | None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
) -> Tensor:
    """Attention softmax(cap(q k^T * scaling) + mask) v, (B, heads, T, value_dim).

    Args:
        query: (B, heads, T, D).
        key, value: (B, kv_heads, L, D); value may have another last axis.
        mask: bool (True: attends) or numbers that are added to the scores, broadcast to (B, heads, T, L).
        causal: T == L, and no query attends to a later key.
        scaling: factor of the scores; None: D ** -0.5.
        softcap: scores become softcap * tanh(scores / softcap).
        s_aux: (heads,), a score without a value that joins each softmax (attention sink).
    Without the last two this is torch's scaled_dot_product_attention.
    """
    import torch

    heads, kv_heads = query.shape[1], key.shape[1]
    if softcap is None and s_aux is None:
        return torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=causal, scale=scaling, enable_gqa=heads != kv_heads
        )
    if heads != kv_heads:  # grouped-query attention: each key head serves several query heads
        key, value = (tensor.repeat_interleave(heads // kv_heads, dim=1) for tensor in (key, value))
    scores = (query @ key.transpose(-1, -2)) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if softcap is not None:  # before the mask, so that masked scores stay -inf
        scores = softcap * torch.tanh(scores / softcap)
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    return softmax_with_sinks(scores, s_aux).to(value.dtype) @ value


def softmax_with_sinks(scores: Tensor, s_aux: Tensor | None) -> Tensor:
    """Softmax over the last axis of scores (B, heads, T, L), in float32.

    s_aux: (heads,), a further score in each sum, whose own probability is dropped; None: none.
    """
    import torch

    if s_aux is None:
        return scores.softmax(dim=-1, dtype=torch.float32)
    # The sink takes part in the normalisation only, so the rows of the result add up to less than 1.
    sink = s_aux.to(scores.dtype).reshape(1, -1, 1, 1).expand(scores.shape[0], -1, scores.shape[2], 1)
    return torch.cat([scores, sink], dim=-1).softmax(dim=-1, dtype=torch.float32)[..., :-1]
