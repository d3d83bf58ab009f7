"""The gradient of one update equals that of a plain implementation: autograd through the model's own logits."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from extra_rl.config.sections import ComputeConfig, SamplingConfig
from extra_rl.sampling.transformers import TransformersSampler
from extra_rl.scoring import head
from extra_rl.scoring.layout import Layout
from extra_rl.training.rollouts import TrainingRollout
from extra_rl.training.settings import UpdateSettings
from extra_rl.training.trainer import Trainer
from tests.zoo.families import FAMILIES, build, shared, untouched
from tests.zoo.reference import requests, sequences, statistics

TEMPERATURE, ENTROPY_WEIGHT, LOW, HIGH = 0.7, 0.1, 0.2, 0.28
SETTINGS = UpdateSettings(
    sampling=SamplingConfig(temperature=TEMPERATURE, max_response_tokens=16),
    compute=ComputeConfig(),
    clip_low=LOW,
    clip_high=HIGH,
    dual_clip=None,
    importance_cap=None,
    entropy_weight=ENTROPY_WEIGHT,
    tokens_per_batch=80,
    gradient_clip=1e9,
).model_copy(update={"learning_rate": 0.0})
ADVANTAGES = (1.0, -0.5, 2.0, -1.0, 0.7)
DROPOUT: dict[str, dict[str, float]] = {
    # Some layers drop out by a module, others by a function call.
    "GPT-2": {"resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1},
    "OPT": {"dropout": 0.1, "attention_dropout": 0.1},
    "Falcon": {"hidden_dropout": 0.1, "attention_dropout": 0.1},
    "BLOOM": {"hidden_dropout": 0.1, "attention_dropout": 0.1},
    "Llama": {"attention_dropout": 0.1},
    "Mixtral": {"router_jitter_noise": 0.1},
    "Phi": {"resid_pdrop": 0.1, "embd_pdrop": 0.1},
}


def rollouts(name: str) -> list[TrainingRollout]:
    """Rollouts of an older policy, whose logprobs differ by up to 0.6 nats: some ratios are clipped."""
    noise = torch.Generator().manual_seed(0)
    found = []
    for i, (sequence, advantage) in enumerate(zip(sequences(), ADVANTAGES, strict=True)):
        with torch.inference_mode():
            own_T = statistics(untouched(name), sequence, TEMPERATURE)[0]
        old = (own_T + 0.4 * torch.randn(own_T.shape, generator=noise)).tolist()
        found.append(TrainingRollout(f"r{i}", "g", sequence, old, old, advantage, loss_start=0, prefix_length=0))
    return found


def gradients(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def plain_gradients(name: str) -> dict[str, torch.Tensor]:
    """-mean over tokens of min(r A, clip(r) A) + weight * entropy, one sequence at a time."""
    model = copy.deepcopy(untouched(name))
    tokens = sum(len(sequence.response) for sequence in sequences())
    for rollout in rollouts(name):
        logprob_T, entropy_T = statistics(model, rollout.sequence, TEMPERATURE)
        ratio_T = (logprob_T - torch.tensor(rollout.old_logprobs)).exp()
        surrogate_T = torch.minimum(ratio_T * rollout.advantage, ratio_T.clamp(1 - LOW, 1 + HIGH) * rollout.advantage)
        (-(surrogate_T + ENTROPY_WEIGHT * entropy_T).sum() / tokens).backward()
    return gradients(model)


def one_step(
    model: Any, batch: list[TrainingRollout], settings: UpdateSettings = SETTINGS, *, checkpointing: bool = False
) -> dict[str, float]:
    """An update whose learning rate is 0: the gradients stay with the model."""
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    trainer = Trainer(model, torch.optim.SGD(model.parameters(), lr=0.0), settings, None)
    metrics = trainer.step(batch)
    assert metrics is not None
    return metrics


def assert_equal_gradients(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Equal to 1e-4 of the norm, for the whole gradient and for every parameter's beyond rounding error."""
    assert set(found) == set(expected)
    norm = torch.stack([value.norm() for value in expected.values()]).norm()
    errors = {name: (found[name] - value).norm() for name, value in expected.items()}
    assert torch.stack(list(errors.values())).norm() < 1e-4 * norm
    for name, value in expected.items():
        assert errors[name] < 1e-4 * value.norm() + 1e-6 * norm, name


@pytest.mark.parametrize("name", FAMILIES)
def test_the_gradient_of_an_update_is_the_plain_one_with_and_without_checkpointing(name: str) -> None:
    expected = plain_gradients(name)
    for checkpointing in (False, True):
        model = build(name)
        if checkpointing and not model.supports_gradient_checkpointing:
            continue
        metrics = one_step(model, rollouts(name), checkpointing=checkpointing)
        assert metrics["clipped_low"] > 0
        assert metrics["clipped_high"] > 0
        assert_equal_gradients(gradients(model), expected)


@pytest.mark.parametrize("name", ["Gemma 2", "Granite", "Cohere", "Phi"])
@pytest.mark.parametrize("layout", ["padded", "shared_prefix"])
def test_the_gradient_in_tiles_is_the_plain_one(name: str, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """With soft cap, scale and bias."""
    monkeypatch.setattr(head, "WHOLE", 1)
    monkeypatch.setattr("extra_rl.scoring.chunked_head.TILE", {"cpu": (8, 200)})
    model = build(name)
    one_step(model, rollouts(name), SETTINGS.model_copy(update={"layout": layout}))
    assert_equal_gradients(gradients(model), plain_gradients(name))


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", DROPOUT)
def test_dropout_and_router_noise_are_off_in_updates(name: str, checkpointing: bool) -> None:
    """The configuration has dropout or router noise and the model is in training mode, yet all ratios are 1."""
    model = build(name, **DROPOUT[name])
    assert {key: getattr(model.config, key) for key in DROPOUT[name]} == DROPOUT[name]
    sampled = TransformersSampler(model, ()).sample(requests(), SamplingConfig(temperature=TEMPERATURE), lambda n: None)
    batch = [
        TrainingRollout(f"r{i}", "g", type(sequences()[0])(r.context, s.tokens), s.logprobs, s.logprobs, 1.0, 0, 0)
        for i, (r, s) in enumerate(zip(requests(), sampled, strict=True))
    ]
    model.train()
    metrics = one_step(model, batch, checkpointing=checkpointing)
    assert metrics["approx_kl"] < 1e-8
    without = build(name)
    one_step(without, batch, checkpointing=False)
    assert_equal_gradients(gradients(model), gradients(without))


def test_distributions_of_the_zoo_are_neither_flat_nor_certain() -> None:
    """So an error changes logprobs."""
    for name in FAMILIES:
        with torch.inference_mode():
            entropy_T = torch.cat([statistics(shared(name), s, 1.0)[1] for s in sequences()])
        assert 1.0 < entropy_T.mean() < 4.69, name  # ln 109 = 4.691
