"""Logprob and entropy of the response tokens of a batch without padding: one row, with shared prefixes once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np

from extra_rl.models.family import backbone
from extra_rl.models.probe import known_head
from extra_rl.scoring.batches import TokenSequence
from extra_rl.scoring.head import head_statistics
from extra_rl.scoring.segment_attention import attending_to, segments_of, use_segments
from extra_rl.scoring.shared_prefix import lay_out

if TYPE_CHECKING:
    from torch import Tensor

    from extra_rl.models.protocol import CausalLM


def packed_statistics(
    model: CausalLM,
    batch: Sequence[TokenSequence],
    temperature: float,
    precision: str = "float32",
    *,
    share: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return logprob_BT, entropy_BT and mask_BT as `response_statistics` does, up to rounding; differentiable.

    The layers run on one row of all tokens. Tokens of a shared prefix are there once; every sequence that begins with
    them reads their hidden state, logprob and entropy, so autograd adds up their gradients. Windows and chunks of the
    model's layers apply. Raises ModelError where the model's attention cannot be exchanged, or the transform of its
    logits is unknown. Source: our decision; equality with the padded pass is tested.

    Args:
        model: the policy; `layout.chosen` measures whether it can be computed in this way.
        batch: B sequences.
        temperature: divides the logits.
        precision: `bfloat16` runs the layers under autocast, over weights that stay float32.
        share: whether shared prefixes are in the row once.
    """
    import torch

    device = next(model.parameters()).device
    head = known_head(model)
    use_segments(model)
    row = lay_out([sequence.tokens for sequence in batch], share=share)
    # Indices of each sequence's response tokens in the row, and for every token of the row the one before it on its
    # path, whose hidden state predicts it. Sequences that share a token agree on its predecessor.
    responses = [places[len(sequence.prompt) :] for places, sequence in zip(row.places, batch, strict=True)]
    before_N = np.zeros(len(row), np.int64)
    for places in row.places:
        before_N[places[1:]] = places[:-1]
    # The head runs once on each distinct response token (U); `which_X` maps it to all sequences that read it.
    place_U, which_X = np.unique(np.concatenate(responses), return_inverse=True)
    target_U = torch.from_numpy(row.tokens_N[place_U]).to(device)
    source_U = torch.from_numpy(before_N[place_U]).to(device)
    width = max(map(len, responses))
    mask_BT = torch.tensor([[len(found)] for found in responses], device=device) > torch.arange(width, device=device)
    tokens_1N = torch.from_numpy(row.tokens_N)[None].to(device)
    autocast = torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()
    with autocast, attending_to(segments_of(row, device)):
        hidden_ND = backbone(model)(
            input_ids=tokens_1N,
            position_ids=torch.from_numpy(row.position_N)[None].to(device),
            attention_mask=torch.ones_like(tokens_1N),  # without one, transformers would look for packed sequences
            use_cache=False,
        ).last_hidden_state[0]
    logprob_U, entropy_U = head_statistics(head, hidden_ND[source_U], target_U, temperature)
    which = torch.from_numpy(which_X).to(device)
    zero_BT = torch.zeros(mask_BT.shape, dtype=logprob_U.dtype, device=device)
    return zero_BT.masked_scatter(mask_BT, logprob_U[which]), zero_BT.masked_scatter(mask_BT, entropy_U[which]), mask_BT
