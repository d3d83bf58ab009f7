"""Aggregations: the weights of tokens and sequences, and that micro-batches add up."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from extra_rl.algorithms.aggregation import constant_denominator, sequence_mean, token_mean
from extra_rl.errors import NumericalError

LOSS = torch.tensor([[1.0, 2.0, 100.0], [4.0, 5.0, 9.0]])
MASK = torch.tensor([[True, True, False], [True, True, True]])


def test_by_hand() -> None:
    assert token_mean(LOSS, MASK, 5).item() == pytest.approx(21 / 5)
    assert sequence_mean(LOSS, MASK, 2).item() == pytest.approx((3 / 2 + 18 / 3) / 2)
    assert constant_denominator(LOSS, MASK, 2, max_tokens=10).item() == pytest.approx(21 / 20)


def constant(loss: Tensor, mask: Tensor, denominator: float) -> Tensor:
    return constant_denominator(loss, mask, denominator, max_tokens=10)


AGGREGATIONS = pytest.mark.parametrize("aggregate", [token_mean, sequence_mean, constant])
Aggregate = Callable[[Tensor, Tensor, float], Tensor]


@AGGREGATIONS
@pytest.mark.parametrize("value", [1e30, math.nan, math.inf])
def test_masked_tokens_contribute_neither_value_nor_gradient(aggregate: Aggregate, value: float) -> None:
    loss = LOSS.clone()
    loss[0, 2] = value
    loss.requires_grad_()
    result = aggregate(loss, MASK, 2)
    assert result.item() == aggregate(LOSS, MASK, 2).item()
    (gradient,) = torch.autograd.grad(result, loss)
    assert gradient[0, 2].item() == 0.0
    assert bool((gradient[MASK] > 0).all())


@AGGREGATIONS
@pytest.mark.parametrize("cut", [1, 2, 3, 5])
def test_micro_batches_add_up(aggregate: Aggregate, cut: int) -> None:
    torch.manual_seed(0)
    loss = torch.randn(6, 4, dtype=torch.float64)
    mask = torch.rand(6, 4) > 0.4
    mask[2] = False  # a sequence without loss tokens
    denominator = 17
    parts = [aggregate(loss[start : start + cut], mask[start : start + cut], denominator) for start in range(0, 6, cut)]
    torch.testing.assert_close(torch.stack(parts).sum(), aggregate(loss, mask, denominator), rtol=1e-12, atol=0)


@AGGREGATIONS
def test_without_loss_tokens_the_result_is_zero(aggregate: Aggregate) -> None:
    assert aggregate(LOSS, torch.zeros_like(MASK), 2).item() == 0.0


@AGGREGATIONS
@pytest.mark.parametrize("denominator", [0, -1])
def test_denominator_must_be_above_zero(aggregate: Aggregate, denominator: int) -> None:
    with pytest.raises(NumericalError, match=f"by {denominator}"):
        aggregate(LOSS, MASK, denominator)


def test_sequence_mean_weights_sequences_and_token_mean_tokens_equally() -> None:
    loss = torch.ones(2, 3, requires_grad=True)
    by_sequence = torch.autograd.grad(sequence_mean(loss, MASK, 2), loss)[0]
    torch.testing.assert_close(by_sequence.sum(1), torch.tensor([0.5, 0.5]))
    by_token = torch.autograd.grad(token_mean(loss, MASK, 5), loss)[0]
    torch.testing.assert_close(by_token.sum(1), torch.tensor([0.4, 0.6]))
