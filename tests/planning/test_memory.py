"""Memory formulas against what tensors really hold on the CPU while the sampler, the scorer and the trainer run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from extra_rl.planning import memory
from extra_rl.planning.memory import Lengths
from extra_rl.planning.shapes import Shape
from tests.planning.live_memory import peak_bytes

WIDE = Shape(40, hidden=128, layers=4, heads=8, kv_heads=4, head_dim=16, intermediate=384)
DEEP = replace(WIDE, layers=8, heads=4, kv_heads=2, intermediate=256)
WORDY = replace(WIDE, vocabulary=6000, layers=2)  # the logits of a batch are just held whole
TILED = replace(WIDE, vocabulary=60_000, layers=2)  # many times as many as are held
SHAPES = pytest.mark.parametrize("shape", [WIDE, DEEP, WORDY], ids=["wide", "deep", "wordy"])
FORWARD = pytest.mark.parametrize("shape", [WIDE, DEEP, WORDY, TILED], ids=["wide", "deep", "wordy", "tiled"])
PRECISIONS = pytest.mark.parametrize("precision", ["float32", "bfloat16"])

LEAST, MOST = 0.95, 1.35
"""A formula gives between these times the bytes that were counted: it may be generous, not tight."""


def model_of(shape: Shape, dtype: str = "float32") -> Any:
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return Qwen3ForCausalLM(config).to(getattr(torch, dtype))


def dynamic(parts: dict[str, float], *static: str) -> float:
    """A peak without what is there before the code runs."""
    return sum(size for name, size in parts.items() if name not in static)


@SHAPES
@PRECISIONS
@pytest.mark.parametrize(("rows", "contexts", "prompt", "response"), [(24, 4, 40, 80), (12, 12, 100, 30)])
def test_the_sampler(shape: Shape, precision: str, rows: int, contexts: int, prompt: int, response: int) -> None:
    from extra_rl.config.sections import SamplingConfig
    from extra_rl.sampling.base import Request
    from extra_rl.sampling.decode_cache import TRIM
    from extra_rl.sampling.transformers import TransformersSampler

    sampler = TransformersSampler(model_of(shape, precision), [shape.vocabulary])  # nothing ends by itself
    requests = [Request((3, *[4 + row % contexts] * (prompt - 1)), response, row) for row in range(rows)]
    sampling = SamplingConfig(batch_rows=rows, max_response_tokens=response)
    counted = peak_bytes(lambda: sampler.sample(requests, sampling))
    parts = memory.sampler(
        shape,
        precision=precision,
        rows=rows,
        contexts=contexts,
        context=prompt,
        capacity=prompt + response + TRIM,
        cut=False,
    )
    assert LEAST < dynamic(parts, "weights") / counted < 1.7  # the prefill is over when the logits come
    assert parts["weights"] == memory.BYTES[precision] * shape.parameters


@FORWARD
@PRECISIONS
def test_the_scorer(shape: Shape, precision: str) -> None:
    import torch

    from extra_rl.scoring.sequences import TokenSequence
    from extra_rl.scoring.statistics import response_statistics

    model = model_of(shape)
    batch = [TokenSequence([3] * 50, [5] * 350), TokenSequence([3] * 50, [5] * 330)]

    def score() -> None:
        with torch.inference_mode():
            response_statistics(model, batch, 1.0, precision)

    counted = peak_bytes(score)
    parts = memory.scorer(shape, precision=precision, tokens_per_batch=800, longest=Lengths(50, 350))
    parts["logits"] = memory.logit_bytes(shape, 680, device="cpu")  # the bound takes every token for a response's
    assert LEAST < dynamic(parts, "weights") / counted < 1.7  # layers are done when the logits come


@FORWARD
@PRECISIONS
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("entropy", [0.0, 0.01])
def test_the_update(shape: Shape, precision: str, checkpointing: bool, entropy: float) -> None:
    import torch

    model = model_of(shape).train()
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    step = micro_batch(model, precision, entropy)
    counted = peak_bytes(step)
    parts = memory.update(
        shape,
        precision=precision,
        tokens_per_batch=800,
        longest=Lengths(50, 350),
        checkpointing=checkpointing,
        entropy_bonus=entropy > 0,
        device="cpu",
    )
    if "logits" in parts:
        parts["logits"] = memory.logit_bytes(shape, 680, trained=True, entropy_bonus=entropy > 0, device="cpu")
    later = shape is TILED and (checkpointing or precision == "bfloat16")  # the activations, gone by then, were smaller
    assert ("tied gradients" in parts) is later
    assert "optimizer step" not in parts
    assert LEAST < dynamic(parts, "weights", "gradient", "optimizer", "reference") / counted < MOST
    assert parts["weights"] + parts["gradient"] + parts["optimizer"] == 16 * shape.parameters


def micro_batch(model: Any, precision: str, entropy: float) -> Any:
    """The trainer's own loss of two rollouts, and its backward pass."""
    from extra_rl.scoring.sequences import TokenSequence
    from extra_rl.training.metrics import StepSums
    from extra_rl.training.rollouts import TrainingRollout
    from extra_rl.training.settings import LossSettings
    from extra_rl.training.trainer import Trainer

    settings = LossSettings(
        loss="clipped",
        aggregate="token_mean",
        clip_low=0.2,
        clip_high=0.28,
        dual_clip=10.0,
        importance_cap=2.0,
        kl_weight=0.0,
        entropy_weight=entropy,
        signal_only=False,
        tokens_per_batch=800,
        learning_rate=1e-6,
        warmup_steps=0,
        gradient_clip=1.0,
        temperature=1.0,
        max_response_tokens=350,
        precision=precision,
        layout="padded",
    )
    trainer = Trainer(model, None, settings, None)  # type: ignore[arg-type]
    rollouts = [
        TrainingRollout(str(n), "g", TokenSequence([3] * 50, [5] * n), [-1.0] * n, [-1.0] * n, 1.0, 0, 0)
        for n in (350, 330)
    ]
    return lambda: trainer._loss(rollouts, rollouts, StepSums()).backward()  # type: ignore[no-untyped-call]


def test_the_optimizer_step_counts_where_it_is_the_peak() -> None:
    import torch

    shape = replace(WIDE, vocabulary=2000, hidden=256)
    model = model_of(shape)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, foreach=True)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    counted = peak_bytes(optimizer.step)
    parts = memory.update(shape, precision="float32", tokens_per_batch=1, longest=Lengths(1, 1), checkpointing=True)
    assert LEAST < parts["optimizer step"] / counted < MOST


def test_top_p_needs_more_when_a_token_is_drawn() -> None:
    import torch

    from extra_rl.config.sections import SamplingConfig
    from extra_rl.sampling.draw import draw

    logits_BV, uniform_B = torch.randn(8, 5000), torch.rand(8, dtype=torch.float64)
    for cut, top_p in ((False, 1.0), (True, 0.9)):
        sampling = SamplingConfig(top_p=top_p)
        counted = peak_bytes(lambda s=sampling: draw(logits_BV, uniform_B, s)) / logits_BV.nbytes  # type: ignore[misc]
        assert counted == pytest.approx(memory.DRAW_COPIES[cut], rel=0.05)


def test_a_batch_holds_one_row_at_least() -> None:
    longest = Lengths(2048, 4096)
    assert memory.largest_batch(8192, longest) == (8192, 8192)
    assert memory.largest_batch(1024, longest) == (6144, 4096)


def test_the_published_shape_by_hand() -> None:
    """Qwen3-1.7B, 16,384 tokens, nearly all of responses, in float32 with checkpointing."""
    shape = Shape(151_936, 2048, 28, 16, 8, 128, 6144)
    parts = memory.update(
        shape, precision="float32", tokens_per_batch=16384, longest=Lengths(2048, 4096), checkpointing=True
    )
    assert parts["logits"] == 2 * 64 * 2**20 + 2 * 4 * 16384 * 2048  # two tiles; hidden states and their gradient
    layer = 24 * 2048 + 24 * 6144 + 24.5 * 2048 + 8.25 * 1024
    assert parts["activations"] == 16384 * (28 * 4 * 2048 + layer)
    assert parts["head gradient"] == 4 * 151_936 * 2048
    assert parts["masks"] == 4 * 16384**2 / 2
    assert sum(parts[name] for name in ("weights", "gradient", "optimizer")) == 16 * 1_720_574_976
    assert parts["cast weights"] == parts["reference"] == 0
