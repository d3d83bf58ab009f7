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


TRIM = 16
"""Padding is cut off in multiples of this: what vector units take at once, so that sums keep their order. Cutting
changes no bit of a softmax then, and where a matrix product adds in the order of its columns, none at all."""


class ContextCache:
    """What a transformers decoder layer asks of a cache, for one reading of whole contexts: it keeps what it gets."""

    def __init__(self) -> None:
        self.layers: list[tuple[Tensor, Tensor]] = []

    def update(self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Keeps (C, kv_heads, T, head_dim) of a layer and returns it."""
        self.layers.append((key, value))
        return key, value

    def get_seq_length(self, layer: int = 0) -> int:
        """Positions filled so far."""
        return 0


class DecodeCache:
    """Keys and values of the rows that are decoded together, right-aligned: every row's last token lies in the last
    column, and what is left of its first is padding.

    Buffers are (rows, kv_heads, capacity, head_dim) per layer, made once; the first `count` rows and `width` columns
    are in use. Padding of the values is finite, as its weight of zero has to give zero.
    """

    def __init__(self, rows: int, capacity: int) -> None:
        self._rows, self._capacity = rows, capacity
        self._buffers: list[tuple[Tensor, Tensor]] = []
        self._filled: list[int] = []
        self.count = 0

    @property
    def width(self) -> int:
        """Columns in use."""
        return self._filled[0] if self._filled else 0

    @property
    def full(self) -> bool:
        """Whether no column is left."""
        return self.width >= self._capacity

    def update(self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Appends (count, kv_heads, T, head_dim) to a layer and returns everything it holds."""
        start = self._filled[layer]
        end = self._filled[layer] = start + key.shape[2]
        keys, values = (buffer[: self.count] for buffer in self._buffers[layer])
        keys[:, :, start:end] = key
        values[:, :, start:end] = value
        return keys[:, :, :end], values[:, :, :end]

    def get_seq_length(self, layer: int = 0) -> int:
        """Columns filled so far."""
        return self._filled[layer] if self._filled else 0

    def admit(self, context: ContextCache, rows_A: Tensor) -> None:
        """Adds one row for each index into the rows of a context; the batch becomes as wide as the context, if it was
        narrower."""
        if not self._buffers:
            for pair in context.layers:
                shape = (self._rows, pair[0].shape[1], self._capacity, pair[0].shape[3])
                self._buffers.append((pair[0].new_empty(shape), pair[1].new_empty(shape)))
                self._filled.append(0)
        wide = context.layers[0][0].shape[2]
        if wide > self.width:
            self._shift(wide - self.width)
        end = self.count + len(rows_A)
        for buffers, pair in zip(self._buffers, context.layers, strict=True):
            for buffer, new in zip(buffers, pair, strict=True):
                buffer[self.count : end, :, : self.width - wide] = 0
                buffer[self.count : end, :, self.width - wide : self.width] = new.index_select(0, rows_A)
        self.count = end

    def select(self, keep_A: Tensor, longest: int) -> None:
        """Keeps the given rows, of which the longest has `longest` tokens; columns that only padded are cut off."""
        cut = (self.width - longest) // TRIM * TRIM if len(keep_A) else self.width
        for buffers in self._buffers:
            for buffer in buffers:
                kept = buffer[: self.count, :, cut : self.width].index_select(0, keep_A)
                buffer[: len(keep_A), :, : kept.shape[2]] = kept
        self._filled = [filled - cut for filled in self._filled]
        self.count = len(keep_A)

    def _shift(self, columns: int) -> None:
        """Pads all rows by so many columns more."""
        for buffers in self._buffers:
            for buffer in buffers:
                buffer[: self.count, :, columns : columns + self.width] = buffer[: self.count, :, : self.width].clone()
                buffer[: self.count, :, :columns] = 0
        self._filled = [filled + columns for filled in self._filled]


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
    key head, and its mask may be narrower than L: it then is that of the first columns, and all others may be looked
    at. More tokens a row (a prefill) go through scaled_dot_product_attention.
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
        scores_BKGL[..., : attention_mask.shape[-1]].masked_fill_(~attention_mask, float("-inf"))
    mixed_BKGD = scores_BKGL.softmax(dim=-1, dtype=torch.float32).to(value.dtype) @ value
    return mixed_BKGD.reshape(batch, 1, heads, size), None
