"""The head's logprobs, entropies and gradients, in tiles, in pieces and whole, compared with float64."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from extra_rl.errors import ConfigError
from extra_rl.models.family import Head
from extra_rl.scoring import chunked_head, head
from tests.planning.live_memory import peak_bytes

TOKENS, VOCABULARY, HIDDEN = 50, 333, 256
BOTH = (True, True)


def head_statistics(module: Any, *given: Any, **transform: float) -> tuple[Any, Any]:
    return head.head_statistics(Head(module, **transform), *given)


def made(bias: bool = False, dtype: torch.dtype = torch.float32) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """A head, hidden states with logits that spread like a language model's (deviation 2), targets."""
    torch.manual_seed(0)
    linear = torch.nn.Linear(HIDDEN, VOCABULARY, bias=bias)
    torch.nn.init.normal_(linear.weight, std=2 / HIDDEN**0.5)
    return linear.to(dtype), torch.randn(TOKENS, HIDDEN), torch.randint(VOCABULARY, (TOKENS,))


def exact(linear: Any, hidden_XD: torch.Tensor, target_X: torch.Tensor, temperature: float) -> tuple[Any, Any]:
    log_p_XV = (linear(hidden_XD) / temperature).log_softmax(-1)
    return log_p_XV[torch.arange(len(target_X)), target_X], -(log_p_XV.exp() * log_p_XV).sum(-1)


def gradients(found: tuple[Any, Any], used: tuple[bool, bool], parts: list[torch.Tensor]) -> list[torch.Tensor]:
    """Gradients of a sum with a different weight for every token; some are zero, as for clipped and masked tokens."""
    weight_X = torch.linspace(-1, 1, len(found[0]), dtype=found[0].dtype)
    weight_X[::3] = 0
    both = (weight_X * found[0], (weight_X.flip(0) - 0.3) * found[1])
    return list(torch.autograd.grad(sum(each.sum() for each, use in zip(both, used, strict=True) if use), parts))


@pytest.fixture(params=[(7, 7 * 10), (64, 64 * 1000), (16, 16 * 111)], ids=["small", "one", "even"])
def tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles that divide neither tokens nor vocabulary, a single tile, and columns that divide the vocabulary."""
    monkeypatch.setitem(chunked_head.TILE, "cpu", request.param)
    monkeypatch.setattr(head, "WHOLE", 5 * VOCABULARY)


class Wrapped(torch.nn.Module):
    """A head that is not a plain linear layer, as peft makes it."""

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        self.linear, self.calls = linear, 0

    @property
    def weight(self) -> torch.Tensor:
        return self.linear.weight

    def forward(self, hidden_XD: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        found: torch.Tensor = self.linear(hidden_XD)
        return found


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("wrap", [False, True], ids=["tiles", "pieces"])
@pytest.mark.parametrize("used", [BOTH, (True, False), (False, True)], ids=["both", "logprob", "entropy"])
def test_values_and_gradients_agree_with_float64(
    temperature: float, bias: bool, wrap: bool, used: tuple[bool, bool]
) -> None:
    linear, hidden_XD, target_X = made(bias)
    precise = copy.deepcopy(linear).double()
    asked = Wrapped(linear) if wrap else linear
    given, given64 = hidden_XD.clone().requires_grad_(), hidden_XD.double().requires_grad_()
    found, expected = (
        head_statistics(asked, given, target_X, temperature),
        exact(precise, given64, target_X, temperature),
    )
    for got, right in zip(found, expected, strict=True):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got.double(), right, rtol=0, atol=1e-5)
    results = gradients(found, used, [given, *linear.parameters()])
    for got, right in zip(results, gradients(expected, used, [given64, *precise.parameters()]), strict=True):
        torch.testing.assert_close(got.double(), right, rtol=0, atol=1e-4)
    assert not results[0][0].any() or used != (True, False)


@pytest.mark.usefixtures("tiles")
def test_values_and_gradients_of_three_logits_by_hand() -> None:
    # logits 2 ln 2, 0, 0 at temperature 2: probabilities 1/2, 1/4, 1/4
    linear = torch.nn.Linear(1, 3, bias=False)
    linear.weight.data = torch.tensor([[2.0], [0.0], [0.0]])
    ln2 = torch.tensor(2.0).log()
    hidden_XD = ln2.expand(900, 1).clone().requires_grad_()
    logprob_X, entropy_X = head_statistics(linear, hidden_XD, torch.tensor([0, 1, 2]).repeat(300), 2.0)
    torch.testing.assert_close(logprob_X[:3], torch.tensor([-1.0, -2.0, -2.0]) * ln2)
    torch.testing.assert_close(entropy_X, (1.5 * ln2).expand(900))
    # d ln p_0 / d logits = (1/2, -1/4, -1/4) / T, and d logits / d hidden = (2, 0, 0)
    (gradient_XD,) = torch.autograd.grad(logprob_X[0], hidden_XD, retain_graph=True)
    assert gradient_XD[0, 0].item() == pytest.approx(0.5 * 2 / 2)
    # d H / d logit_0 = -p_0 (ln p_0 + H) / T = -1/2 (1/2 ln 2) / 2
    (gradient_XD,) = torch.autograd.grad(entropy_X[0], hidden_XD)
    assert gradient_XD[0, 0].item() == pytest.approx(-0.25 * ln2.item() / 2 * 2)


def test_more_logits_than_the_limit_are_never_held_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    linear = torch.nn.Linear(16, 1000, bias=False)
    target_X = torch.randint(1000, (400,))
    tile = 4 * 100 * 100
    results = 4 * (400 * 16 * 4 + 1000 * 16)  # hidden states and their gradient, that of the weight
    for wrap in (False, True):
        monkeypatch.setattr(head, "WHOLE", 10_000)
        monkeypatch.setitem(chunked_head.TILE, "cpu", (100, 10_000))
        hidden_XD = torch.randn(400, 16, requires_grad=True)
        asked = Wrapped(linear) if wrap else linear

        def step(asked: Any = asked, hidden_XD: torch.Tensor = hidden_XD) -> None:
            logprob_X, entropy_X = head_statistics(asked, hidden_XD, target_X, 1.0)
            (logprob_X.sum() - entropy_X.sum()).backward()

        assert peak_bytes(step) < results + (8 if wrap else 3) * tile < 4 * 400 * 1000
        linear.weight.grad = None
        with torch.inference_mode():
            assert peak_bytes(lambda asked=asked, h=hidden_XD: head_statistics(asked, h, target_X, 1.0)) < 5 * tile


@pytest.mark.usefixtures("tiles")
def test_a_bfloat16_head_computes_in_float32_and_gets_gradients_of_its_type() -> None:
    linear, hidden_XD, target_X = made(dtype=torch.bfloat16)
    precise = copy.deepcopy(linear).double()
    given, given64 = hidden_XD.bfloat16().requires_grad_(), hidden_XD.bfloat16().double().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):  # has no effect on the head
        found = head_statistics(linear, given, target_X, 1.0)
    expected = exact(precise, given64, target_X, 1.0)
    for got, right in zip(found, expected, strict=True):
        torch.testing.assert_close(got.double(), right, rtol=0, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        results = gradients(found, BOTH, [given, linear.weight])
    for got, right in zip(results, gradients(expected, BOTH, [given64, precise.weight]), strict=True):
        assert got.dtype == torch.bfloat16
        torch.testing.assert_close(got.double(), right, rtol=2**-7, atol=1e-4)


def test_a_small_bfloat16_head_computes_in_float32_too() -> None:
    linear, hidden_XD, target_X = made(dtype=torch.bfloat16)
    found = head_statistics(linear, hidden_XD, target_X, 1.0)
    for got, right in zip(found, exact(linear.double(), hidden_XD.double(), target_X, 1.0), strict=True):
        torch.testing.assert_close(got.double(), right, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("tiles")
def test_a_frozen_head_passes_the_gradient_on() -> None:
    linear, hidden_XD, target_X = made()
    given = hidden_XD.requires_grad_()
    expected = gradients(head_statistics(linear, given, target_X, 1.0), BOTH, [given])
    linear.requires_grad_(False)
    torch.testing.assert_close(gradients(head_statistics(linear, given, target_X, 1.0), BOTH, [given]), expected)


@pytest.mark.usefixtures("tiles")
def test_hooks_of_the_head_run_once_and_its_forward_stays() -> None:
    linear, hidden_XD, target_X = made()
    seen: list[int] = []
    linear.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    head_statistics(linear, hidden_XD, target_X, 1.0)
    assert seen == [TOKENS]
    assert linear(hidden_XD).shape == (TOKENS, VOCABULARY)
    with pytest.raises(ConfigError, match="temperature"):
        head_statistics(linear, hidden_XD, target_X, 0.0)
    assert linear(hidden_XD).shape == (TOKENS, VOCABULARY)


def test_few_logits_take_the_plain_formula_bit_by_bit() -> None:
    from extra_rl.algorithms.entropy import logprob_and_entropy

    linear, hidden_XD, target_X = made()
    found = head_statistics(linear, hidden_XD, target_X, 0.7)
    for got, right in zip(found, logprob_and_entropy(linear(hidden_XD), target_X, 0.7), strict=True):
        assert torch.equal(got, right)


@pytest.mark.usefixtures("tiles")
def test_extreme_logits_neither_overflow_nor_lose_a_certain_token() -> None:
    linear = torch.nn.Linear(1, 2000, bias=False)
    linear.weight.data = torch.linspace(-1e4, 1e4, 2000).unsqueeze(1)
    hidden_XD = torch.ones(3, 1)
    logprob_X, entropy_X = head_statistics(linear, hidden_XD, torch.tensor([1999, 0, 1999]), 1.0)
    torch.testing.assert_close(logprob_X, torch.tensor([-4.5e-5, -2e4, -4.5e-5]), rtol=1e-3, atol=2e-6)
    assert bool(((entropy_X >= 0) & (entropy_X < 1e-3)).all())
    assert bool((logprob_X <= 0).all())


@pytest.mark.usefixtures("tiles")
def test_no_tokens_give_empty_results() -> None:
    linear, _, _ = made()
    logprob_X, entropy_X = head_statistics(linear, torch.zeros(0, HIDDEN), torch.zeros(0, dtype=torch.long), 1.0)
    assert logprob_X.shape == entropy_X.shape == (0,)


@pytest.mark.usefixtures("tiles")
def test_tokens_with_zero_gradients_give_zero_gradients() -> None:
    linear, hidden_XD, target_X = made()
    given = hidden_XD.requires_grad_()
    logprob_X, _ = head_statistics(linear, given, target_X, 1.0)
    (0 * logprob_X).sum().backward()
    assert not given.grad.any()  # type: ignore[union-attr]
    assert not linear.weight.grad.any()


@pytest.mark.parametrize("way", ["tiles", "pieces", "whole"])
@pytest.mark.parametrize(("scale", "cap"), [(0.3, None), (1.0, 4.0), (0.5, 3.0)])
def test_scaled_and_capped_logits_agree_with_float64(
    monkeypatch: pytest.MonkeyPatch, way: str, scale: float, cap: float | None
) -> None:
    """Values and gradients in hidden states, weight and bias, for the three ways of computing a head."""
    linear, hidden_XD, target_X = made(bias=True)
    monkeypatch.setattr(head, "WHOLE", 10**9 if way == "whole" else 0)
    monkeypatch.setitem(chunked_head.TILE, "cpu", (16, 16 * 100))
    asked = Wrapped(linear) if way == "pieces" else linear
    given = hidden_XD.clone().requires_grad_()
    found = head_statistics(asked, given, target_X, 0.7, scale=scale, cap=cap)
    parts = [given, linear.weight, linear.bias]
    slopes = gradients(found, BOTH, parts)
    double, given_64 = copy.deepcopy(linear).double(), hidden_XD.double().requires_grad_()
    logits_XV = scale * double(given_64)
    logits_XV = logits_XV if cap is None else cap * torch.tanh(logits_XV / cap)
    expected = exact(lambda x: x, logits_XV, target_X, 0.7)
    torch.testing.assert_close(found, tuple(e.float() for e in expected), atol=2e-5, rtol=1e-5)
    for slope, wanted in zip(slopes, gradients(expected, BOTH, [given_64, double.weight, double.bias]), strict=True):
        assert (slope - wanted).abs().max() < 1e-5 * wanted.abs().max()
