"""Logprob and entropy of given tokens in a padded batch."""

from __future__ import annotations

import pytest
import torch

from extra_rl.scoring.batches import TokenSequence
from extra_rl.scoring.statistics import response_statistics
from tests.models import random_qwen3

SEQUENCES = [
    TokenSequence((1, 5, 9), (3, 4, 2)),
    TokenSequence((1,), (30, 31, 32, 33, 34, 2)),
    TokenSequence((1, 8), (2,)),
]


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_statistics_equal_a_separate_forward_pass_of_each_sequence(temperature: float) -> None:
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
