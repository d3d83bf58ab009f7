"""The statistics of given tokens."""

from __future__ import annotations

import pytest
import torch

from extra_rl.models.tokenizers import word_level
from extra_rl.scoring.batches import TokenSequence, micro_batches
from extra_rl.scoring.statistics import response_statistics
from tests.models import random_qwen3

SEQUENCES = [
    TokenSequence((1, 5, 9), (3, 4, 2)),
    TokenSequence((1,), (30, 31, 32, 33, 34, 2)),
    TokenSequence((1, 8), (2,)),
]
TOKENIZER = word_level([str(number) for number in range(37)])


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_statistics_equal_one_plain_forward_pass_a_sequence(temperature: float) -> None:
    model = random_qwen3()
    logprob_BT, entropy_BT, mask_BT = response_statistics(model, SEQUENCES, temperature)
    assert mask_BT.sum(1).tolist() == [3, 6, 1]
    for row, sequence in enumerate(SEQUENCES):
        tokens = torch.tensor([[*sequence.prompt, *sequence.response]])
        logits_TV = model(tokens).logits[0, len(sequence.prompt) - 1 : -1].double() / temperature
        expected_TV = logits_TV.log_softmax(-1)
        chosen_T = expected_TV[range(len(sequence.response)), list(sequence.response)]
        entropy_T = -(expected_TV.exp() * expected_TV).sum(-1)
        torch.testing.assert_close(logprob_BT[row][mask_BT[row]].double(), chosen_T, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(entropy_BT[row][mask_BT[row]].double(), entropy_T, atol=1e-5, rtol=1e-5)
    assert not logprob_BT[~mask_BT].any()


def test_bfloat16_agrees_to_a_hundredth_and_keeps_the_head_in_float32() -> None:
    model = random_qwen3()
    plain_BT, _, mask_BT = response_statistics(model, SEQUENCES, 1.0)
    seen: list[torch.dtype] = []
    model.lm_head.register_forward_hook(lambda module, given, logits: seen.append(logits.dtype))
    rounded_BT, entropy_BT, _ = response_statistics(model, SEQUENCES, 1.0, "bfloat16")
    assert (rounded_BT.dtype, entropy_BT.dtype, seen) == (torch.float32, torch.float32, [torch.float32])
    difference = (rounded_BT - plain_BT)[mask_BT].abs()
    assert 0 < difference.max() < 0.05
    assert difference.mean() < 0.02


def test_micro_batches_hold_every_row_once_within_the_budget() -> None:
    lengths = [3, 40, 7, 7, 12, 1, 25]
    batches = list(micro_batches(lengths, 48))
    assert sorted(row for batch in batches for row in batch) == list(range(7))
    assert all(len(batch) * max(lengths[row] for row in batch) <= 48 for batch in batches)
    assert batches[0] == [1]
    assert list(micro_batches([100], 48)) == [[0]]
