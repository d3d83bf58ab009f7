"""Keys and values of a decoding batch, and the attention that reads them without copies.

transformers' DynamicCache concatenates on every step, copies the whole batch to drop a finished row, and its attention
repeats the keys of grouped heads: on small models this is most of a step's time. Here rows are written in place into
buffers that are allocated once, and grouped heads are a matrix product. Source: our decision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from extra_rl.errors import ModelError
from extra_rl.models.attention import mixed_values, softmax_with_sinks, use_attention

if TYPE_CHECKING:
    from torch import Tensor

    from extra_rl.models.protocol import CausalLM

ATTENTION = "extra_grouped"
"""Name under which `use_grouped_attention` registers the attention with transformers."""

TRIM = 16
"""Padding is cut off in multiples of this, the width of vector units, so that sums keep their order. Then cutting
changes no bit of a softmax, and no bit at all where a matrix product adds in the order of its columns."""


class ContextCache:
    """The cache interface of transformers for one pass over whole contexts: it stores what the layers write."""

    def __init__(self) -> None:
        self.layers: dict[int, tuple[Tensor, Tensor]] = {}

    def has_previous_state(self, *_: Any, **__: Any) -> bool:
        """Called by layers that keep a running state (convolutions, state spaces) instead of keys and values."""
        raise ModelError("layers keep a state that is neither keys nor values, which this cache does not store")

    def update(self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Store (C, kv_heads, T, head_dim) of a layer and return it."""
        if layer in self.layers:
            raise ModelError(
                "a layer writes its keys and values twice in one pass, but this cache stores one pair per layer"
            )
        self.layers[layer] = key, value
        return key, value

    def get_seq_length(self, layer: int = 0) -> int:
        """Number of positions filled so far."""
        return 0

    def get_query_offset(self, layer: int = 0) -> int:
        """Position of the first query, for the mask."""
        return 0

    def get_mask_sizes(self, queries: int, layer: int) -> tuple[int, int]:
        """Number of keys that a mask covers, and the position of the first."""
        return queries, 0


class DecodeCache:
    """Keys and values of the rows that are decoded together, aligned on the right.

    The last token of every row is in the last column in use; the columns before its first token are padding. Buffers
    are (rows, kv_heads, capacity, head_dim) per layer, allocated once; the first `count` rows and `width` columns are
    in use. Padding is finite, because its weight of zero must give zero.
    """

    def __init__(self, rows: int, capacity: int) -> None:
        self._rows, self.capacity = rows, capacity
        self._buffers: dict[int, tuple[Tensor, Tensor]] = {}
        self._filled: dict[int, int] = {}
        self.count = 0

    @property
    def width(self) -> int:
        """Number of columns in use."""
        return min(self._filled.values(), default=0)

    @property
    def full(self) -> bool:
        """Whether no column is left."""
        return self.width >= self.capacity

    def update(self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append (count, kv_heads, T, head_dim) to a layer; return all its keys and values, as views of the buffers."""
        start = self._filled[layer]
        end = self._filled[layer] = start + key.shape[2]
        keys, values = (buffer[: self.count] for buffer in self._buffers[layer])
        keys[:, :, start:end] = key
        values[:, :, start:end] = value
        return keys[:, :, :end], values[:, :, :end]

    def get_seq_length(self, layer: int = 0) -> int:
        """Number of columns filled so far."""
        return self._filled.get(layer, 0)

    def get_query_offset(self, layer: int = 0) -> int:
        """Column of the next query, for the mask."""
        return self.get_seq_length(layer)

    def get_mask_sizes(self, queries: int, layer: int) -> tuple[int, int]:
        """Number of columns that a mask covers once the queries are written, and the first of them."""
        return self.get_seq_length(layer) + queries, 0

    def admit(self, context: ContextCache, rows_A: Tensor) -> None:
        """Add a row for each index into the rows of `context`; a batch that is narrower than the context is padded."""
        if not context.layers:
            raise ModelError("the model writes no keys and values into the cache that it is passed")
        if not self._buffers:
            for layer, pair in context.layers.items():
                key, value = (t.new_empty(self._rows, t.shape[1], self.capacity, t.shape[3]) for t in pair)
                self._buffers[layer], self._filled[layer] = (key, value), 0
        # Both are right-aligned: the narrower of batch and context gets padding on the left.
        wide = next(iter(context.layers.values()))[0].shape[2]
        if wide > self.width:
            self._shift(wide - self.width)
        end = self.count + len(rows_A)
        for layer, pair in context.layers.items():
            for buffer, new in zip(self._buffers[layer], pair, strict=True):
                buffer[self.count : end, :, : self.width - wide] = 0  # fresh memory may contain NaN
                buffer[self.count : end, :, self.width - wide : self.width] = new.index_select(0, rows_A)
        self.count = end

    def select(self, keep_A: Tensor, longest: int) -> None:
        """Keep the given rows, the longest of which has `longest` tokens; cut padding off in steps of TRIM."""
        cut = (self.width - longest) // TRIM * TRIM if len(keep_A) else self.width
        for buffers in self._buffers.values():
            for buffer in buffers:
                # index_select copies, so source and target may overlap.
                kept = buffer[: self.count, :, cut : self.width].index_select(0, keep_A)
                buffer[: len(keep_A), :, : kept.shape[2]] = kept
        self._filled = {layer: filled - cut for layer, filled in self._filled.items()}
        self.count = len(keep_A)

    def _shift(self, columns: int) -> None:
        """Move all rows `columns` to the right, with padding before them."""
        for buffers in self._buffers.values():
            for buffer in buffers:
                buffer[: self.count, :, columns : columns + self.width] = buffer[: self.count, :, : self.width].clone()
                buffer[: self.count, :, :columns] = 0
        self._filled = {layer: filled + columns for layer, filled in self._filled.items()}


def use_grouped_attention(model: CausalLM) -> None:
    """Make the model attend by `grouped_attention` from now on; ModelError where its attention cannot be exchanged."""
    use_attention(model, ATTENTION, grouped_attention, decoding_mask)


def decoding_mask(*, q_length: int, kv_length: int, allow_is_causal_skip: bool = True, **options: Any) -> Any:
    """transformers' mask function of ATTENTION: bool, (B, 1, q_length, kv_length), True where a query may attend.

    None where a single query per row may attend to all keys. Several queries per row always have a mask, in which a
    query on padding attends to itself: the softmax of an empty row would be NaN.
    """
    import torch
    from transformers.masking_utils import sdpa_mask

    skip = allow_is_causal_skip and q_length == 1
    mask = sdpa_mask(q_length=q_length, kv_length=kv_length, allow_is_causal_skip=skip, **options)
    if mask is None or q_length == 1 or options.get("attention_mask") is None:
        return mask
    # Queries are the last columns: the diagonal, moved to them.
    eye_QL = torch.eye(q_length, kv_length, dtype=torch.bool, device=mask.device).roll(kv_length - q_length, 1)
    return mask | eye_QL


def grouped_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
) -> tuple[Tensor, None]:
    """softmax(q k^T * scaling + mask) v, with heads that share keys computed together.

    The signature is that of transformers' attention functions. One token per row is a matrix product per key head; more
    tokens per row (a prefill) use scaled_dot_product_attention. Returns (B, T, heads, head_dim), and None.

    Args:
        module: the attention layer; not read.
        query: (B, heads, T, head_dim), with positions applied.
        key, value: (B, kv_heads, L, head_dim).
        attention_mask: bool, broadcast to (B, 1, T, L), True where a query may attend; None: everywhere.
        scaling: of the scores; None: head_dim^-1/2.
        softcap, s_aux: as in `mixed_values`.
    """
    batch, heads, width, size = query.shape
    if width > 1:
        causal = attention_mask is None  # a plain forward pass of the model, outside of the sampler
        mixed = mixed_values(
            query, key, value, attention_mask, causal=causal, scaling=scaling, softcap=softcap, s_aux=s_aux
        )
        return mixed.transpose(1, 2), None
    scaling = scaling if scaling is not None else size**-0.5
    # K key heads, G query heads each: one (G, D) x (D, L) product per key head, without repeating its keys.
    grouped_BKGD = query.reshape(batch, key.shape[1], heads // key.shape[1], size)
    scores_BKGL = (grouped_BKGD * scaling) @ key.transpose(-1, -2)
    if softcap is not None:
        scores_BKGL = softcap * (scores_BKGL / softcap).tanh()
    if attention_mask is not None:
        scores_BKGL.masked_fill_(~attention_mask, float("-inf"))
    if s_aux is None:
        weights_BKGL = softmax_with_sinks(scores_BKGL, None)
    else:  # sinks are one number per query head: back to one axis of heads
        flat_BH1L = softmax_with_sinks(scores_BKGL.reshape(batch, heads, 1, -1), s_aux)
        weights_BKGL = flat_BH1L.reshape(scores_BKGL.shape)
    mixed_BKGD = weights_BKGL.to(value.dtype) @ value
    return mixed_BKGD.reshape(batch, 1, heads, value.shape[-1]), None
