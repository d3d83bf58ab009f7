"""Logprob and entropy of the response tokens of a batch without padding: one row of tokens, shared prefixes once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from extra_rl.forward.head import head_statistics
from extra_rl.forward.segment_attention import segments_of, use_segments
from extra_rl.forward.sequences import TokenSequence
from extra_rl.forward.shared_prefix import lay_out

if TYPE_CHECKING:
    from torch import Tensor


def packed_statistics(
    model: Any, batch: Sequence[TokenSequence], temperature: float, precision: str = "float32", *, share: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """What `response_statistics` returns, up to rounding: logprob_BT, entropy_BT and mask_BT; differentiable.

    The layers see one row of all tokens; with `share`, tokens that several sequences begin with stand there once, and
    their hidden state, logprob and entropy are read by every sequence that has them: gradients add up by themselves.
    A token's logprob is read from the hidden state of the token before it. The model's layers must all attend in full
    (`layout.can_pack`). Source: our decision; equality with the padded pass is tested.
    """
    import torch

    device = next(model.parameters()).device
    use_segments(model)
    row = lay_out([sequence.tokens for sequence in batch], share=share)
    responses = [places[len(sequence.prompt) :] for places, sequence in zip(row.places, batch, strict=True)]
    before_N = np.zeros(len(row), np.int64)
    for places in row.places:
        before_N[places[1:]] = places[:-1]
    place_U, which_X = np.unique(np.concatenate(responses), return_inverse=True)
    target_U = torch.from_numpy(row.tokens_N[place_U]).to(device)
    source_U = torch.from_numpy(before_N[place_U]).to(device)
    width = max(map(len, responses))
    mask_BT = torch.tensor([[len(found)] for found in responses], device=device) > torch.arange(width, device=device)
    with torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext():
        hidden_ND = model.model(
            input_ids=torch.from_numpy(row.tokens_N)[None].to(device),
            position_ids=torch.from_numpy(row.position_N)[None].to(device),
            attention_mask={"full_attention": None},
            use_cache=False,
            segments=segments_of(row, device),
        ).last_hidden_state[0]
    logprob_U, entropy_U = head_statistics(model.lm_head, hidden_ND[source_U], target_U, temperature)
    which = torch.from_numpy(which_X).to(device)
    zero_BT = torch.zeros(mask_BT.shape, dtype=logprob_U.dtype, device=device)
    return zero_BT.masked_scatter(mask_BT, logprob_U[which]), zero_BT.masked_scatter(mask_BT, entropy_U[which]), mask_BT
