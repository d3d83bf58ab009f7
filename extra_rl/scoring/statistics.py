"""Logprob and entropy of the response tokens of a padded batch, by the model's own attention."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

from extra_rl.algorithms.entropy import logprob_and_entropy
from extra_rl.models.attention import restore_attention
from extra_rl.models.family import backbone
from extra_rl.models.probe import known_head
from extra_rl.scoring.head import head_statistics
from extra_rl.scoring.sequences import TokenSequence

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from extra_rl.models.protocol import CausalLM


class _Padded(NamedTuple):
    """A right-padded batch. tokens_BL, valid_BL (1: a token); of the response tokens, in the order of rows: row_X,
    place_X (of the token before, whose hidden state predicts it), target_X; mask_BT: where they stand."""

    tokens_BL: Tensor
    valid_BL: Tensor
    row_X: Tensor
    place_X: Tensor
    target_X: Tensor
    mask_BT: Tensor


def response_statistics(
    model: CausalLM, batch: Sequence[TokenSequence], temperature: float, precision: str = "float32"
) -> tuple[Tensor, Tensor, Tensor]:
    """Logprob and entropy of every response token of a right-padded batch, at `temperature`.

    Returns logprob_BT, entropy_BT (nats, float32, zero on padding) and mask_BT (bool). Differentiable. The head runs
    on response positions only. precision: `bfloat16` runs the layers under autocast, over weights that stay float32;
    head and softmax are float32 in any case, because a logit of 20 in bfloat16 is off by up to 0.06.
    ModelError where the transform of the model's logits is not known.
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
    """The same by the family's own forward pass, its own head included: for models that no faster path computes.

    Memory: logits (rows, longest row, vocabulary) in float32, several times; `plain_tokens` bounds the micro-batch.
    """
    padded = _padded(batch, next(model.parameters()).device)
    restore_attention(model)
    with _autocast(padded.tokens_BL, precision):
        logits_BLV = model(input_ids=padded.tokens_BL, attention_mask=padded.valid_BL, use_cache=False).logits
    logits_XV = logits_BLV[padded.row_X, padded.place_X]
    return _spread(*logprob_and_entropy(logits_XV, padded.target_X, temperature), padded.mask_BT)


PLAIN_LOGITS = 2**27
"""Logits of a micro-batch on the plain path, at most: 512 MiB in float32, held a few times."""


def plain_tokens(model: CausalLM, tokens_per_batch: int) -> int:
    """Tokens of a micro-batch on the plain path: those asked for, or fewer where the vocabulary is large."""
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
    """Values of response tokens at their places, zero elsewhere."""
    import torch

    zero_BT = torch.zeros(mask_BT.shape, dtype=logprob_X.dtype, device=mask_BT.device)
    return zero_BT.masked_scatter(mask_BT, logprob_X), zero_BT.masked_scatter(mask_BT, entropy_X), mask_BT
