"""Per-token losses: values, gradients and diagnostics at hand-picked ratios."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from extra_rl.algorithms.aggregation import sequence_mean
from extra_rl.algorithms.loss import (
    MAX_LOG_RATIO,
    TokenLoss,
    cispo,
    clipped_surrogate,
    gspo,
    importance_weight,
    kl_k1,
    kl_k2,
    kl_k3,
    kl_penalty,
    supervised,
)


def surrogate_at(ratio: float, advantage: float, **options: float | None) -> tuple[TokenLoss, float]:
    """The loss of one token with this ratio, and its gradient by ln pi."""
    old = torch.tensor([[-1.5]])
    logprob = (old + math.log(ratio)).requires_grad_()
    result = clipped_surrogate(logprob, old, torch.tensor([[advantage]]), **options)  # type: ignore[arg-type]
    (gradient,) = torch.autograd.grad(result.loss_BT.sum(), logprob)
    return result, gradient.item()


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient", "clipped"),
    [
        (1.0, 2.0, -2.0, -2.0, ""),
        (1.2, 2.0, -2.4, -2.4, ""),  # inside the higher upper bound; a symmetric 0.2 would sit on its edge
        (1.5, 2.0, -2.56, 0.0, "high"),  # clipped at 1.28
        (0.5, 2.0, -1.0, -1.0, ""),  # a token with A > 0 that lost probability is never clipped
        (0.5, -2.0, 1.6, 0.0, "low"),  # clipped at 0.8
        (1.5, -2.0, 3.0, 3.0, ""),  # a token with A < 0 that gained probability is not clipped ...
        (12.0, -2.0, 20.0, 0.0, "dual"),  # ... up to the dual bound of 10
        (12.0, 2.0, -2.56, 0.0, "high"),  # the dual bound is not for A > 0
        (0.01, 2.0, -0.02, -0.02, ""),
        (5.0, 0.0, 0.0, 0.0, ""),
    ],
)
def test_clipped_surrogate(ratio: float, advantage: float, loss: float, gradient: float, clipped: str) -> None:
    result, slope = surrogate_at(ratio, advantage)
    assert result.loss_BT.item() == pytest.approx(loss, rel=1e-5)
    assert slope == pytest.approx(gradient, rel=1e-5)
    flags = {"low": result.clip_low_BT, "high": result.clip_high_BT, "dual": result.clip_dual_BT}
    assert {name: flag.item() for name, flag in flags.items()} == {name: float(name == clipped) for name in flags}


def test_clip_bounds_are_options() -> None:
    high, _ = surrogate_at(1.5, 1.0, clip_high=0.4)
    assert high.loss_BT.item() == pytest.approx(-1.4, rel=1e-6)
    low, _ = surrogate_at(0.5, -1.0, clip_low=0.4)
    assert low.loss_BT.item() == pytest.approx(0.6, rel=1e-6)
    dual, _ = surrogate_at(4.0, -1.0, dual_clip=3.0)
    assert dual.loss_BT.item() == pytest.approx(3.0, rel=1e-6)


def test_without_dual_clip_the_loss_has_no_bound() -> None:
    result, gradient = surrogate_at(12.0, -2.0, dual_clip=None)
    assert result.loss_BT.item() == pytest.approx(24.0, rel=1e-5)
    assert gradient == pytest.approx(24.0, rel=1e-5)
    assert result.clip_dual_BT.item() == 0.0


def test_approximate_kl_is_of_old_against_new() -> None:
    # samples are from the old policy: k3 = r - 1 - ln r = 2 - 1 - ln 2; the other direction would be ln 2 - 1/2
    result, _ = surrogate_at(2.0, 1.0)
    assert result.approx_kl_BT.item() == pytest.approx(1 - math.log(2), rel=1e-5)


def test_extreme_ratios_stay_finite() -> None:
    logprob = torch.tensor([[0.0, -500.0]], requires_grad=True)
    old = torch.tensor([[-500.0, 0.0]])
    minus = torch.tensor([[-1.0, -1.0]])
    losses: list[Callable[[], TokenLoss]] = [
        lambda: clipped_surrogate(logprob, old, minus, dual_clip=None),
        lambda: gspo(logprob, old, minus, torch.tensor([[True, False]])),
        lambda: cispo(logprob, old, minus, clip_high=4.0),
    ]
    for loss in losses:
        result = loss()
        (gradient,) = torch.autograd.grad(result.loss_BT.sum(), logprob)
        assert all(bool(torch.isfinite(field).all()) for field in (*result, gradient))
    assert losses[0]().loss_BT[0, 0].item() == pytest.approx(math.exp(MAX_LOG_RATIO), rel=1e-5)


def test_no_gradient_reaches_old_logprobs_or_diagnostics() -> None:
    logprob = torch.tensor([[-1.0, -2.0]], requires_grad=True)
    old = torch.tensor([[-1.1, -1.9]], requires_grad=True)
    advantage, mask = torch.ones(1, 2), torch.ones(1, 2, dtype=torch.bool)
    for result in (
        clipped_surrogate(logprob, old, advantage),
        gspo(logprob, old, advantage, mask),
        cispo(logprob, old, advantage, clip_high=4.0),
    ):
        assert result.loss_BT.requires_grad
        assert not any(field.requires_grad for field in result[1:])
        (gradient,) = torch.autograd.grad(result.loss_BT.sum(), old, allow_unused=True, materialize_grads=True)
        assert gradient.tolist() == [[0.0, 0.0]]


MASK = torch.tensor([[True, True, False, False], [True, True, True, True]])
OLD = torch.tensor([[-1.0, -2.0, -3.0, 0.0], [-0.5, -0.6, -0.7, -0.8]])


def test_gspo_ratio_is_the_geometric_mean_over_loss_tokens() -> None:
    # sequence 0: log-ratios 2e-4 and 0, mean 1e-4 (without the masked 5); sequence 1: mean 1e-3, clipped
    logprob = OLD.double() + torch.tensor([[2e-4, 0.0, 5.0, 5.0], [4e-3, 0.0, 0.0, 0.0]])
    result = gspo(logprob, OLD.double(), torch.tensor([[1.0], [1.0]]).expand(2, 4), MASK)
    torch.testing.assert_close(
        result.loss_BT[0, :2], torch.full((2,), -math.exp(1e-4), dtype=torch.float64), rtol=1e-9, atol=0
    )
    torch.testing.assert_close(result.loss_BT[1], torch.full((4,), -1.0004, dtype=torch.float64), rtol=1e-9, atol=0)
    assert result.clip_high_BT[1].tolist() == [1.0] * 4
    assert result.clip_high_BT[0, :2].tolist() == [0.0] * 2


def test_gspo_clips_low_for_negative_advantages_and_has_no_dual_clip() -> None:
    logprob = OLD + torch.tensor([[-1e-3], [5.0]])
    result = gspo(logprob, OLD, torch.full((2, 4), -1.0), MASK)
    assert result.loss_BT[0, 0].item() == pytest.approx(0.9997, rel=1e-6)
    assert result.clip_low_BT[:, 0].tolist() == [1.0, 0.0]
    assert result.loss_BT[1, 0].item() == pytest.approx(math.exp(5.0), rel=1e-5)  # above a dual bound of 10
    assert not result.clip_dual_BT.any()


def test_gspo_token_form_has_value_and_gradient_of_the_sequence_loss() -> None:
    torch.manual_seed(0)
    old = -torch.rand(2, 4, dtype=torch.float64)
    logprob = (old + 0.1 * torch.randn(2, 4, dtype=torch.float64)).requires_grad_()
    advantage = torch.tensor([[0.7], [-1.3]], dtype=torch.float64)
    wide = {"clip_low": 10.0, "clip_high": 10.0}  # unclipped, so that every token has a gradient
    by_token = sequence_mean(gspo(logprob, old, advantage.expand(2, 4), MASK, **wide).loss_BT, MASK, 2)
    ratio = ((logprob - old) * MASK).sum(1).div(MASK.sum(1)).exp()
    by_sequence = -(ratio * advantage[:, 0]).mean()
    torch.testing.assert_close(by_token, by_sequence, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        torch.autograd.grad(by_token, logprob), torch.autograd.grad(by_sequence, logprob), rtol=1e-12, atol=0
    )


def test_gspo_the_loss_of_a_token_has_the_gradient_of_that_token_only() -> None:
    logprob = OLD.clone().requires_grad_()
    result = gspo(logprob, OLD, torch.full((2, 4), 3.0), MASK)
    (gradient,) = torch.autograd.grad(result.loss_BT[1, 2], logprob)
    assert gradient.tolist() == [[0.0] * 4, [0.0, 0.0, -3.0, 0.0]]


def test_gspo_of_a_sequence_without_loss_tokens() -> None:
    logprob = OLD.clone().requires_grad_()
    result = gspo(logprob, OLD, torch.ones(2, 4), torch.zeros(2, 4, dtype=torch.bool))
    (gradient,) = torch.autograd.grad(result.loss_BT.sum(), logprob)
    assert bool(torch.isfinite(result.loss_BT).all())
    assert not gradient.any()


@pytest.mark.parametrize(
    ("ratio", "advantage", "weight", "capped"),
    [(1.0, 2.0, 1.0, 0.0), (3.0, 2.0, 1.5, 1.0), (3.0, -2.0, 1.5, 1.0), (0.1, -2.0, 0.1, 0.0)],
)
def test_cispo_caps_the_weight_and_keeps_the_gradient(
    ratio: float, advantage: float, weight: float, capped: float
) -> None:
    old = torch.tensor([[-1.5]])
    logprob = (old + math.log(ratio)).requires_grad_()
    result = cispo(logprob, old, torch.tensor([[advantage]]), clip_high=0.5)
    (gradient,) = torch.autograd.grad(result.loss_BT.sum(), logprob)
    assert result.loss_BT.item() == pytest.approx(-weight * advantage * logprob.item(), rel=1e-5)
    assert gradient.item() == pytest.approx(-weight * advantage, rel=1e-5)
    assert result.clip_high_BT.item() == capped
    assert result.clip_low_BT.item() == result.clip_dual_BT.item() == 0.0
    assert result.approx_kl_BT.item() == pytest.approx(ratio - 1 - math.log(ratio), abs=1e-6)


def test_kl_estimators_by_hand() -> None:
    # pi = 1/2, ref = 1/4: k1 = ln 2, k2 = (ln 2)^2 / 2, k3 = 1/2 - 1 + ln 2
    logprob, ref = torch.tensor([[math.log(0.5)]]), torch.tensor([[math.log(0.25)]])
    assert kl_k1(logprob, ref).item() == pytest.approx(math.log(2), rel=1e-6)
    assert kl_k2(logprob, ref).item() == pytest.approx(math.log(2) ** 2 / 2, rel=1e-6)
    assert kl_k3(logprob, ref).item() == pytest.approx(math.log(2) - 0.5, rel=1e-6)
    assert kl_k1(ref, logprob).item() == pytest.approx(-math.log(2), rel=1e-6)
    assert kl_k3(ref, logprob).item() == pytest.approx(1 - math.log(2), rel=1e-6)


@pytest.mark.parametrize("estimator", [kl_k1, kl_k3])
def test_k1_and_k3_are_unbiased(estimator: Callable[[Tensor, Tensor], Tensor]) -> None:
    policy, ref = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.2, 0.6])
    exact = (policy * (policy / ref).log()).sum()
    expected = (policy * estimator(policy.log(), ref.log())).sum()
    torch.testing.assert_close(expected, exact)


@pytest.mark.parametrize(
    ("estimator", "value", "gradient"),
    [  # pi = 1/2, ref = 1/4: d = ln 2
        ("k1", math.log(2), math.log(2)),
        ("k2", math.log(2) ** 2 / 2, math.log(2)),
        ("k3", math.log(2) - 0.5, 0.5),
    ],
)
def test_kl_penalty_by_hand(estimator: str, value: float, gradient: float) -> None:
    logprob = torch.tensor([[math.log(0.5)]], requires_grad=True)
    ref = torch.tensor([[math.log(0.25)]], requires_grad=True)
    penalty = kl_penalty(estimator, logprob, ref)
    assert penalty.value_BT.item() == pytest.approx(value, rel=1e-6)
    assert penalty.loss_BT.item() == pytest.approx(value, rel=1e-6)
    assert not penalty.value_BT.requires_grad
    (slope,) = torch.autograd.grad(penalty.loss_BT.sum(), logprob)
    assert slope.item() == pytest.approx(gradient, rel=1e-6)


@pytest.mark.parametrize(("estimator", "exact"), [("k1", True), ("k2", True), ("k3", False)])
def test_the_mean_gradient_of_a_penalty_is_that_of_the_kl_except_for_k3(estimator: str, exact: bool) -> None:
    logits = torch.tensor([0.3, -0.2, 0.5], requires_grad=True)
    ref = torch.tensor([0.2, 0.2, 0.6]).log()
    logprob = logits.log_softmax(0)
    (of_kl,) = torch.autograd.grad((logprob.exp() * (logprob - ref)).sum(), logits, retain_graph=True)
    loss = (logprob.exp().detach() * kl_penalty(estimator, logprob, ref).loss_BT).sum()
    (of_loss,) = torch.autograd.grad(loss, logits, retain_graph=True)
    assert torch.allclose(of_loss, of_kl, atol=1e-6) == exact
    (of_bare_k1,) = torch.autograd.grad((logprob.exp().detach() * kl_k1(logprob, ref)).sum(), logits)
    torch.testing.assert_close(of_bare_k1, torch.zeros(3), atol=1e-6, rtol=0)  # k1 is not a loss by itself


def test_k3_of_small_differences_is_exact_and_of_large_ones_finite() -> None:
    small = kl_k3(torch.tensor([0.0]), torch.tensor([1e-4]))
    assert small.item() == pytest.approx(5e-9, rel=2e-3)  # e^x - 1 - x in float32 would be 1.7e-8 or 0
    assert math.isfinite(kl_k3(torch.tensor([-400.0]), torch.tensor([0.0])).item())


def test_importance_weight_by_hand() -> None:
    old = torch.tensor([[math.log(0.6), math.log(0.1), -1.0, -1.0]], requires_grad=True)
    sampler = torch.tensor([[math.log(0.2), math.log(0.2), math.nan, -9.0]])
    result = importance_weight(old, sampler, torch.tensor([[True, True, False, False]]))
    torch.testing.assert_close(result.weight_BT, torch.tensor([[2.0, 0.5, 0.0, 0.0]]))
    torch.testing.assert_close(result.ratio_BT, torch.tensor([[3.0, 0.5, 0.0, 0.0]]))
    assert not result.weight_BT.requires_grad
    assert not result.ratio_BT.requires_grad
    wider = importance_weight(old, sampler, torch.tensor([[True, True, False, False]]), cap=2.5)
    assert wider.weight_BT[0, 0].item() == pytest.approx(2.5)


def test_the_supervised_loss_is_the_weighted_cross_entropy() -> None:
    logprob_BT = torch.tensor([[-0.5, -2.0]], requires_grad=True)
    token = supervised(logprob_BT, torch.tensor([[1.0]]))
    assert token.loss_BT.tolist() == [[0.5, 2.0]]
    token.loss_BT.sum().backward()
    assert logprob_BT.grad is not None
    assert logprob_BT.grad.tolist() == [[-1.0, -1.0]]
    assert token.approx_kl_BT.sum() == token.clip_high_BT.sum() == 0
