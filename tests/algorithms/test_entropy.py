"""Log-probability and entropy at the sampling temperature."""

import math

import pytest
import torch

from extra_rl.algorithms.entropy import logprob_and_entropy
from extra_rl.errors import ConfigError

# softmax of these is (1/2, 1/4, 1/4)
LOGITS = [math.log(2.0), 0.0, 0.0]


def test_by_hand_at_temperature_one() -> None:
    logprob, entropy = logprob_and_entropy(torch.tensor([LOGITS, LOGITS]), torch.tensor([0, 2]), 1.0)
    torch.testing.assert_close(logprob, torch.tensor([math.log(0.5), math.log(0.25)]))
    torch.testing.assert_close(entropy, torch.full((2,), 1.5 * math.log(2.0)))


def test_temperature_divides_the_logits_of_both() -> None:
    # at temperature 1/2 the weights are 4 : 1 : 1
    logprob, entropy = logprob_and_entropy(torch.tensor([LOGITS]), torch.tensor([0]), 0.5)
    assert logprob.item() == pytest.approx(math.log(2 / 3), abs=1e-6)
    assert entropy.item() == pytest.approx(-(2 / 3) * math.log(2 / 3) - (1 / 3) * math.log(1 / 6), abs=1e-6)


def test_uniform_and_certain() -> None:
    _, uniform = logprob_and_entropy(torch.full((1, 1000), 7.0), torch.tensor([3]), 2.0)
    assert uniform.item() == pytest.approx(math.log(1000), rel=1e-6)
    logprob, certain = logprob_and_entropy(torch.tensor([[1e4, 0.0]]), torch.tensor([0]), 1.0)
    assert (logprob.item(), certain.item()) == (0.0, 0.0)


def test_a_large_common_offset_changes_nothing() -> None:
    shifted = torch.tensor([LOGITS]) + 1000.0
    logprob, entropy = logprob_and_entropy(shifted, torch.tensor([1]), 1.0)
    assert logprob.item() == pytest.approx(math.log(0.25), abs=1e-4)
    assert entropy.item() == pytest.approx(1.5 * math.log(2.0), abs=1e-4)


def test_bfloat16_logits_are_computed_in_float32() -> None:
    torch.manual_seed(0)
    logits = torch.randn(4, 500).bfloat16()
    targets = torch.arange(4)
    low, exact = (
        logprob_and_entropy(logits, targets, 0.7),
        logprob_and_entropy(logits.float(), targets, 0.7),
    )
    for got, expected in zip(low, exact, strict=True):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, expected, rtol=0, atol=0)


def test_leading_axes_are_kept() -> None:
    logits = torch.tensor(LOGITS).expand(2, 3, 3)
    logprob, entropy = logprob_and_entropy(logits, torch.tensor([[0, 1, 2], [1, 0, 0]]), 1.0)
    assert logprob.shape == entropy.shape == (2, 3)
    torch.testing.assert_close(logprob.exp(), torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.5, 0.5]]))


def test_gradients_of_both() -> None:
    # d logprob / d z = (onehot - p) / T; d H / d z_v = -p_v (ln p_v + H) / T
    temperature = 0.5
    p = torch.tensor([2 / 3, 1 / 6, 1 / 6])
    entropy_value = -(p * p.log()).sum()
    for output, expected in (
        (0, (torch.tensor([0.0, 1.0, 0.0]) - p) / temperature),
        (1, -p * (p.log() + entropy_value) / temperature),
    ):
        logits = torch.tensor([LOGITS], requires_grad=True)
        result = logprob_and_entropy(logits, torch.tensor([1]), temperature)[output]
        (gradient,) = torch.autograd.grad(result.sum(), logits)
        torch.testing.assert_close(gradient[0], expected)


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_temperature_must_be_above_zero(temperature: float) -> None:
    with pytest.raises(ConfigError, match="temperature"):
        logprob_and_entropy(torch.zeros(1, 2), torch.tensor([0]), temperature)
