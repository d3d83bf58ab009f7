"""Attention of a packed row: the queries of a segment attend to the keys on its path, and nothing else is computed.

A dense mask over a row of N tokens would cost N^2 per head. Here keys and values are gathered once per layer, segment
after segment, and attended to by torch's variable-length flash attention (bfloat16 on CUDA:
`torch.nn.attention.varlen`), or by one scaled_dot_product_attention per segment.

The model's own code decides which keys a query may attend to (windows, chunks): transformers passes the rule of each
kind of layer to the mask function below, which keeps it as a `PathMask`. Positions on a path are those of the sequence,
so the same rule applies to every segment. Source: our decision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from extra_rl.models.attention import mixed_values, use_attention
from extra_rl.scoring.shared_prefix import Row

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from extra_rl.models.protocol import CausalLM

ATTENTION = "extra_segments"
"""Name under which `use_segments` registers the attention with transformers."""


@dataclass(frozen=True)
class Segments:
    """The segments of a `Row`, on the model's device.

    queries, keys: number of tokens per segment. key_index: (K,) indices of the keys in the row; None: the row itself.
    query_ends, key_ends: running sums of `queries` and `keys` from 0, int32, as flash attention takes them.
    """

    queries: list[int]
    keys: list[int]
    key_index: Tensor | None
    query_ends: Tensor
    key_ends: Tensor


_CURRENT: ContextVar[Segments | None] = ContextVar("extra_segments", default=None)


def segments_of(row: Row, device: torch.device) -> Segments:
    """Return the row's segments as tensors on `device`."""
    import torch

    def ends(lengths: list[int]) -> Tensor:
        return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)

    index = None if row.key_places is None else torch.from_numpy(row.key_places).to(device)
    return Segments(row.queries, row.keys, index, ends(row.queries), ends(row.keys))


@contextmanager
def attending_to(segments: Segments) -> Iterator[None]:
    """Make forward passes in this block read one packed row with these segments."""
    token = _CURRENT.set(segments)
    try:
        yield
    finally:
        _CURRENT.reset(token)


@dataclass(frozen=True)
class PathMask:
    """The rule by which a kind of layer attends, instead of a mask over the whole row; made once per forward pass.

    rule: transformers' mask function of (batch, head, query, key) positions, which may need `use_vmap`. local_size:
    window or chunk in tokens; None without one. may_skip: the rule is causal within a window, so a mask is needed only
    where the window is shorter than the path. masks: by (queries, keys); the first layer makes them for all layers.
    """

    segments: Segments
    rule: Callable[..., Any]
    local_size: int | None
    use_vmap: bool
    may_skip: bool
    masks: dict[tuple[int, int], tuple[Tensor | None, bool]] = field(default_factory=dict)

    def mask(self, queries: int, keys: int, like: Tensor) -> tuple[Tensor | None, bool]:
        """Return the mask of a segment of that many queries and keys, and whether it is simply causal.

        The mask is (queries, keys), floats to add to the scores; None where no key is excluded. Floats, because
        scaled_dot_product_attention would convert booleans in every layer, and keep the result for each.
        """
        if (queries, keys) not in self.masks:
            import torch
            from transformers.masking_utils import sdpa_mask

            allowed = sdpa_mask(
                batch_size=1,
                q_length=queries,
                kv_length=keys,
                q_offset=keys - queries,  # queries are the last tokens of the path
                mask_function=self.rule,
                local_size=self.local_size,
                allow_is_causal_skip=self.may_skip,
                use_vmap=self.use_vmap,
                device=like.device,
            )
            numbers = None
            if allowed is not None:
                outside = torch.full((queries, keys), -torch.inf, dtype=like.dtype, device=like.device)
                numbers = outside.masked_fill_(allowed[0, 0], 0.0)
            self.masks[queries, keys] = numbers, numbers is None and queries == keys
        return self.masks[queries, keys]

    @property
    def only_causal(self) -> bool:
        """Whether attention is causal in every segment of this row: no window is shorter than a path."""
        from transformers.masking_utils import causal_mask_function

        within = self.local_size is not None and max(self.segments.keys) <= self.local_size
        return self.may_skip and (self.rule is causal_mask_function or within)


def path_mask(*, mask_function: Callable[..., Any], **options: Any) -> Any:
    """transformers' mask function of ATTENTION: a PathMask within `attending_to`, else the mask of a padded batch."""
    from transformers.masking_utils import sdpa_mask

    segments = _CURRENT.get()
    if segments is None:
        return sdpa_mask(mask_function=mask_function, **options)
    use_vmap = bool(options.get("use_vmap"))
    may_skip = bool(options.get("allow_is_causal_skip")) and not use_vmap
    return PathMask(segments, mask_function, options.get("local_size"), use_vmap, may_skip)


def use_segments(model: CausalLM) -> None:
    """Make the model attend by `segment_attention` from now on; ModelError where its attention cannot be exchanged.

    Permanently, because gradient checkpointing computes layers again long after their forward pass. Outside of
    `attending_to` the attention is that of padded rows, with their masks.
    """
    use_attention(model, ATTENTION, segment_attention, path_mask)


def segment_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
) -> tuple[Tensor, None]:
    """softmax(q k^T * scaling) v over the keys of each query's path; returns (1, N, heads, head_dim) and None.

    The signature is that of transformers' attention functions.

    Args:
        module: the attention layer; not read.
        query: (1, heads, N, head_dim) of a packed row, with positions applied.
        key, value: (1, kv_heads, N, head_dim).
        attention_mask: the `PathMask` of the layer's kind; a tensor or None outside of a packed row.
        scaling: of the scores; None: head_dim^-1/2.
        softcap, s_aux: as in `mixed_values`.
    """
    import torch

    if not isinstance(attention_mask, PathMask):
        causal = attention_mask is None and query.shape[2] > 1
        mixed = mixed_values(
            query, key, value, attention_mask, causal=causal, scaling=scaling, softcap=softcap, s_aux=s_aux
        )
        return mixed.transpose(1, 2).contiguous(), None
    segments = attention_mask.segments
    # Under autocast the norms of queries and keys, whose weights are float32, raise them above the values' precision.
    query, key = query.to(value.dtype), key.to(value.dtype)
    query_NHD, key_KGD, value_KGD = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    if segments.key_index is not None:  # keys of shared tokens are repeated for every segment that reads them
        key_KGD, value_KGD = key_KGD.index_select(0, segments.key_index), value_KGD.index_select(0, segments.key_index)
    if takes_flash(query) and softcap is None and s_aux is None and attention_mask.only_causal:
        return _flash(query_NHD, key_KGD, value_KGD, segments, scaling)[None], None
    parts = []
    # One call per segment, each at its own length: (1, heads, Q, D) against (1, kv_heads, L, D).
    for query_QHD, key_LGD, value_LGD in zip(
        torch.split(query_NHD, segments.queries),
        torch.split(key_KGD, segments.keys),
        torch.split(value_KGD, segments.keys),
        strict=True,
    ):
        one, keys, values = (tensor.transpose(0, 1)[None] for tensor in (query_QHD, key_LGD, value_LGD))
        mask_QL, causal = attention_mask.mask(len(query_QHD), len(key_LGD), query)
        mixed = mixed_values(one, keys, values, mask_QL, causal=causal, scaling=scaling, softcap=softcap, s_aux=s_aux)
        parts.append(mixed[0].transpose(0, 1))
    return torch.cat(parts)[None], None


def takes_flash(query: Tensor) -> bool:
    """Whether variable-length flash attention is available: half precision on CUDA, head_dim of at most 256."""
    import torch

    return query.is_cuda and query.dtype in (torch.bfloat16, torch.float16) and query.shape[-1] <= 256


def _flash(query_NHD: Tensor, key_KGD: Tensor, value_KGD: Tensor, segments: Segments, scaling: float | None) -> Tensor:
    """Attend in all segments by one kernel; causal masks are aligned at the ends, as in flash attention since 2.1."""
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
