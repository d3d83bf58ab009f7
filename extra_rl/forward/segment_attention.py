"""Attention of a packed row: every segment's queries look at the keys on its own path, and nothing else is computed.

A dense mask over a row of N tokens would cost N^2 a head. Here keys and values are gathered once a layer, segment after
segment, and attended to by torch's variable-length flash attention (bfloat16 on CUDA: `torch.nn.attention.varlen`), or
by scaled_dot_product_attention a segment. Source: our decision.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from extra_rl.forward.shared_prefix import Row

if TYPE_CHECKING:
    import torch
    from torch import Tensor

ATTENTION = "extra_segments"
"""Name under which `use_segments` registers the attention with transformers."""


@dataclass(frozen=True)
class Segments:
    """What attention has to know of a `Row`, on the model's device. key_index (K,): places of the keys; None: the
    row's own. queries, keys: tokens a segment. query_ends, key_ends: their running sums from 0, int32. masks: made by
    the first layer for all."""

    queries: list[int]
    keys: list[int]
    key_index: Tensor | None
    query_ends: Tensor
    key_ends: Tensor
    masks: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    def mask(self, queries: int, keys: int, like: Tensor) -> Tensor | None:
        """(queries, keys), to be added to the scores, causal where both end together; None where all keys are theirs.

        Numbers and not booleans: scaled_dot_product_attention would make numbers of those, and keep them, every layer.
        """
        import torch

        if queries == keys:
            return None
        if (queries, keys) not in self.masks:
            outside = torch.full((queries, keys), -torch.inf, dtype=like.dtype, device=like.device)
            self.masks[queries, keys] = outside.triu(keys - queries + 1)
        return self.masks[queries, keys]


def segments_of(row: Row, device: torch.device) -> Segments:
    """The row's segments as tensors on `device`."""
    import torch

    def ends(lengths: list[int]) -> Tensor:
        return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)

    index = None if row.key_places is None else torch.from_numpy(row.key_places).to(device)
    return Segments(row.queries, row.keys, index, ends(row.queries), ends(row.keys))


def use_segments(model: Any) -> None:
    """Makes the model attend by `segment_attention` from now on.

    It stays so: a layer that is computed again for gradient checkpointing runs long after its forward pass. Without
    `segments` the attention is transformers' sdpa, with its masks.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    if model.config._attn_implementation != ATTENTION:
        AttentionInterface.register(ATTENTION, segment_attention)
        AttentionMaskInterface.register(ATTENTION, sdpa_mask)
        model.set_attn_implementation(ATTENTION)


def segment_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    segments: Segments | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """softmax(q k^T * scaling) v over the keys of each query's path; (1, N, heads, head_dim).

    query: (1, heads, N, head_dim); key, value: (1, kv_heads, N, head_dim), of a packed row, positions applied.
    """
    import torch

    if segments is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(  # type: ignore[no-any-return]
            module, query, key, value, attention_mask, scaling=scaling, **options
        )
    # Under autocast the norms of queries and keys, whose weights are float32, raise them above the values' precision.
    query, key = query.to(value.dtype), key.to(value.dtype)
    query_NHD, key_KGD, value_KGD = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    if segments.key_index is not None:
        key_KGD, value_KGD = key_KGD.index_select(0, segments.key_index), value_KGD.index_select(0, segments.key_index)
    if takes_flash(query):
        return _flash(query_NHD, key_KGD, value_KGD, segments, scaling)[None], None
    query_parts = torch.split(query_NHD, segments.queries)
    key_parts = torch.split(key_KGD, segments.keys)
    value_parts = torch.split(value_KGD, segments.keys)
    parts = zip(query_parts, key_parts, value_parts, strict=True)
    mixed = [_one(*part, segments, scaling) for part in parts]
    return torch.cat(mixed)[None], None


def takes_flash(query: Tensor) -> bool:
    """Whether variable-length flash attention can be used: half precision on CUDA, heads of at most 256."""
    import torch

    return query.is_cuda and query.dtype in (torch.bfloat16, torch.float16) and query.shape[-1] <= 256


def _one(query_QHD: Tensor, key_KGD: Tensor, value_KGD: Tensor, segments: Segments, scaling: float | None) -> Tensor:
    """One segment by scaled_dot_product_attention. (Q, heads, head_dim)"""
    import torch

    query, key, value = (tensor.transpose(0, 1)[None] for tensor in (query_QHD, key_KGD, value_KGD))
    mask_QK = segments.mask(len(query_QHD), len(key_KGD), query)
    mixed = torch.nn.functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask_QK,
        is_causal=mask_QK is None,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return mixed[0].transpose(0, 1)


def _flash(query_NHD: Tensor, key_KGD: Tensor, value_KGD: Tensor, segments: Segments, scaling: float | None) -> Tensor:
    """All segments in one kernel; causal masks are aligned at the ends, as flash attention has them since 2.1."""
    from torch.nn.attention.varlen import varlen_attn

    mixed = varlen_attn(
        query_NHD.contiguous(),
        key_KGD.contiguous(),
        value_KGD.contiguous(),
        segments.query_ends,
        segments.key_ends,
        max(segments.queries),
        max(segments.keys),
        scale=scaling,
        window_size=(-1, 0),
        enable_gqa=query_NHD.shape[1] != key_KGD.shape[1],
    )
    assert not isinstance(mixed, tuple)
    return mixed
