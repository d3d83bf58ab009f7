"""Logprob and entropy of the response tokens of a padded batch."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from extra_rl.forward.head import head_statistics
from extra_rl.forward.sequences import TokenSequence

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def response_statistics(
    model: torch.nn.Module, batch: Sequence[TokenSequence], temperature: float, precision: str = "float32"
) -> tuple[Tensor, Tensor, Tensor]:
    """Logprob and entropy of every response token of a right-padded batch, at `temperature`.

    Returns logprob_BT, entropy_BT (nats, float32, zero on padding) and mask_BT (bool). Differentiable. The head runs
    on response positions only. precision: `bfloat16` runs the layers under autocast, over weights that stay float32;
    head and softmax are float32 in any case, because a logit of 20 in bfloat16 is off by up to 0.06.
    """
    import torch

    device = next(model.parameters()).device
    width, responses = max(map(len, batch)), max(len(s.response) for s in batch)
    tokens_BL = torch.zeros(len(batch), width, dtype=torch.long)
    valid_BL = torch.zeros(len(batch), width, dtype=torch.long)
    mask_BT = torch.zeros(len(batch), responses, dtype=torch.bool)
    position_BT = torch.zeros(len(batch), responses, dtype=torch.long)
    target_BT = torch.zeros(len(batch), responses, dtype=torch.long)
    for row, sequence in enumerate(batch):
        start, count = len(sequence.prompt), len(sequence.response)
        tokens_BL[row, : len(sequence)] = torch.tensor([*sequence.prompt, *sequence.response])
        valid_BL[row, : len(sequence)] = 1
        mask_BT[row, :count] = True
        position_BT[row, :count] = torch.arange(start - 1, start + count - 1)
        target_BT[row, :count] = torch.tensor(list(sequence.response))
    mask_BT = mask_BT.to(device)
    with torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext():
        hidden_BLD = model.model(  # type: ignore[operator]
            input_ids=tokens_BL.to(device), attention_mask=valid_BL.to(device), use_cache=False
        ).last_hidden_state
    rows_X, _ = mask_BT.nonzero(as_tuple=True)
    hidden_XD = hidden_BLD[rows_X, position_BT.to(device)[mask_BT]]
    logprob_X, entropy_X = head_statistics(model.lm_head, hidden_XD, target_BT.to(device)[mask_BT], temperature)
    zero_BT = torch.zeros(mask_BT.shape, dtype=logprob_X.dtype, device=device)
    return zero_BT.masked_scatter(mask_BT, logprob_X), zero_BT.masked_scatter(mask_BT, entropy_X), mask_BT
