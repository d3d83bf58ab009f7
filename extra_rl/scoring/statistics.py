"""Logprob and entropy of the response tokens of a right-padded batch, with the model's own attention."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

from extra_rl.algorithms.entropy import logprob_and_entropy
from extra_rl.models.attention import restore_attention
from extra_rl.models.family import backbone
from extra_rl.models.probe import known_head
from extra_rl.scoring.batches import TokenSequence
from extra_rl.scoring.head import head_statistics

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from extra_rl.models.protocol import CausalLM


class _Padded(NamedTuple):
    """A right-padded batch, all int64 but the bool mask.

    tokens_BL, valid_BL: token ids, and 1 at tokens. row_X, place_X, target_X: of each response token, row by row, its
    row, the column of the token before (whose hidden state predicts it), and its id. mask_BT: True at response tokens.
    """

    tokens_BL: Tensor
    valid_BL: Tensor
    row_X: Tensor
    place_X: Tensor
    target_X: Tensor
    mask_BT: Tensor


def response_statistics(
    model: CausalLM, batch: Sequence[TokenSequence], temperature: float, precision: str = "float32"
) -> tuple[Tensor, Tensor, Tensor]:
    """Return logprob_BT, entropy_BT (nats, float32, 0 on padding) and mask_BT (bool) of the response tokens.

    Differentiable. The head runs on response positions only. Head and softmax are float32 in any case, because the
    error of a logit of 20 in bfloat16 is up to 0.06. Raises ModelError where the transform of the logits is unknown.

    Args:
        model: the policy.
        batch: B sequences.
        temperature: divides the logits.
        precision: `bfloat16` runs the layers under autocast, over weights that stay float32.
    """
    head = known_head(model)
    padded = _padded(batch, next(model.parameters()).device)
    restore_attention(model)
    with _autocast(padded.tokens_BL, precision):
        hidden_BLD = backbone(model)(
            input_ids=padded.tokens_BL, attention_mask=padded.valid_BL, use_cache=False
        ).last_hidden_state
    hidden_XD = hidden_BLD[padded.row_X, padded.place_X]
    return _spread(*head_statistics(head, hidden_XD, padded.target_X, temperature), padded.mask_BT)


def plain_statistics(
    model: CausalLM, batch: Sequence[TokenSequence], temperature: float, precision: str = "float32"
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the same by the family's own forward pass, head included: for models that no faster path computes.

    Memory: logits (B, longest row, vocabulary) in float32, several times; `plain_tokens` bounds the micro-batch.
    """
    padded = _padded(batch, next(model.parameters()).device)
    restore_attention(model)
    with _autocast(padded.tokens_BL, precision):
        logits_BLV = model(input_ids=padded.tokens_BL, attention_mask=padded.valid_BL, use_cache=False).logits
    logits_XV = logits_BLV[padded.row_X, padded.place_X]
    return _spread(*logprob_and_entropy(logits_XV, padded.target_X, temperature), padded.mask_BT)


PLAIN_LOGITS = 2**27
"""Largest number of logits of a micro-batch on the plain path: 512 MiB in float32, held a few times."""


def plain_tokens(model: CausalLM, tokens_per_batch: int) -> int:
    """Return the tokens of a micro-batch on the plain path: as configured, or fewer where the vocabulary is large."""
    vocabulary = int(model.config.get_text_config().vocab_size)
    return max(1, min(tokens_per_batch, PLAIN_LOGITS // vocabulary))


def _autocast(tokens_BL: Tensor, precision: str) -> Any:
    import torch

    return torch.autocast(tokens_BL.device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()


def _padded(batch: Sequence[TokenSequence], device: torch.device) -> _Padded:
    import torch

    width, responses = max(map(len, batch)), max(len(s.response) for s in batch)
    tokens_BL = torch.zeros(len(batch), width, dtype=torch.long)
    valid_BL = torch.zeros(len(batch), width, dtype=torch.long)
    mask_BT = torch.zeros(len(batch), responses, dtype=torch.bool)
    position_BT = torch.zeros(len(batch), responses, dtype=torch.long)
    target_BT = torch.zeros(len(batch), responses, dtype=torch.long)
    # Filled as (B, T) and flattened by the mask at the end: boolean indexing keeps the order of rows.
    for row, sequence in enumerate(batch):
        start, count = len(sequence.prompt), len(sequence.response)
        tokens_BL[row, : len(sequence)] = torch.tensor([*sequence.prompt, *sequence.response])
        valid_BL[row, : len(sequence)] = 1
        mask_BT[row, :count] = True
        position_BT[row, :count] = torch.arange(start - 1, start + count - 1)
        target_BT[row, :count] = torch.tensor(list(sequence.response))
    row_X, _ = mask_BT.nonzero(as_tuple=True)
    found = _Padded(tokens_BL, valid_BL, row_X, position_BT[mask_BT], target_BT[mask_BT], mask_BT)
    return _Padded(*(tensor.to(device) for tensor in found))


def _spread(logprob_X: Tensor, entropy_X: Tensor, mask_BT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return values of response tokens as (B, T), 0 elsewhere, and the mask."""
    import torch

    zero_BT = torch.zeros(mask_BT.shape, dtype=logprob_X.dtype, device=mask_BT.device)
    return zero_BT.masked_scatter(mask_BT, logprob_X), zero_BT.masked_scatter(mask_BT, entropy_X), mask_BT
