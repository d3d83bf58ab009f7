"""Keys and values of a decoding batch, and the attention that reads them without copies.

transformers' DynamicCache concatenates on every step, copies the whole batch to drop a finished row, and its attention
repeats the keys of grouped heads: on small models that is most of a step. Here rows are written in place into a buffer
made once, and grouped heads are a matrix product. Source: our decision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

ATTENTION = "extra_grouped"
"""Name under which `use_grouped_attention` registers the attention with transformers."""


class DecodeCache:
    """What a transformers decoder layer asks of a cache: `update`, which returns all keys and values so far.

    Buffers are (B, kv_heads, capacity, head_dim) per layer; the first `length` positions are filled.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self._filled: list[int] = []

    def update(self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Appends (B, kv_heads, T, head_dim) to a layer and returns everything it holds."""
        if layer == len(self._keys):
            shape = (key.shape[0], key.shape[1], max(self._capacity, key.shape[2]), key.shape[3])
            self._keys.append(key.new_empty(shape))
            self._values.append(value.new_empty(shape))
            self._filled.append(0)
        start = self._filled[layer]
        end = self._filled[layer] = start + key.shape[2]
        self._keys[layer][:, :, start:end] = key
        self._values[layer][:, :, start:end] = value
        return self._keys[layer][:, :, :end], self._values[layer][:, :, :end]

    def get_seq_length(self, layer: int = 0) -> int:
        """Positions filled so far."""
        return self._filled[layer] if self._filled else 0

    def select(self, rows: Tensor) -> None:
        """Keeps (or repeats) the given rows of the batch, in that order."""
        for layer, filled in enumerate(self._filled):
            for buffers in (self._keys, self._values):
                old = buffers[layer]
                kept = old[:, :, :filled].index_select(0, rows)
                # The old buffer serves again where it is large enough: fresh memory costs a page fault a page.
                new = old[: len(rows)] if len(rows) <= len(old) else old.new_empty((len(rows), *old.shape[1:]))
                new[:, :, :filled] = kept
                buffers[layer] = new


def use_grouped_attention(model: Any) -> None:
    """Makes the model attend by `grouped_attention` from now on."""
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, grouped_attention)
    model.set_attn_implementation(ATTENTION)


def grouped_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """softmax(q k^T * scaling + mask) v, heads that share keys taken together.

    query: (B, heads, T, head_dim); key, value: (B, kv_heads, L, head_dim); attention_mask: bool, broadcast to
    (B, 1, T, L), True where a query may look. Returns (B, T, heads, head_dim). One token a row is a matrix product per
    key head; more (a prefill) go through scaled_dot_product_attention.
    """
    import torch

    scaling = scaling if scaling is not None else query.shape[-1] ** -0.5
    batch, heads, width, size = query.shape
    if width > 1:
        mixed = torch.nn.functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=attention_mask,
            is_causal=attention_mask is None,  # a plain forward pass of the model, outside of the sampler
            scale=scaling,
            enable_gqa=heads != key.shape[1],
        )
        return mixed.transpose(1, 2), None
    grouped_BKGD = query.reshape(batch, key.shape[1], heads // key.shape[1], size)
    scores_BKGL = (grouped_BKGD * scaling) @ key.transpose(-1, -2)
    if attention_mask is not None:
        scores_BKGL = scores_BKGL.masked_fill(~attention_mask, float("-inf"))
    mixed_BKGD = scores_BKGL.softmax(dim=-1, dtype=torch.float32).to(value.dtype) @ value
    return mixed_BKGD.reshape(batch, 1, heads, size), None
