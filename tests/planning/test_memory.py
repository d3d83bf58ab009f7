"""The floor of a stage's memory: by hand, and below what tensors really hold on the CPU while the stage runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from extra_rl.planning import memory
from extra_rl.planning.memory import floors_of, optimizer_bytes, trained_parameters
from extra_rl.planning.shapes import KNOWN, Shape
from tests.models import random_qwen3
from tests.planning.live_memory import peak_bytes
from tests.planning.test_counts import sections

WIDE = Shape(40, hidden=128, layers=4, heads=8, kv_heads=4, head_dim=16, intermediate=384)
PRECISIONS = pytest.mark.parametrize("precision", ["float32", "bfloat16"])
LARGE = KNOWN["Qwen/Qwen3-1.7B"]


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


def floors(precision: str = "float32", prompt: int = 50, response: int = 350, **changes: Any) -> Any:
    made = sections(
        model={"context_tokens": prompt + response},
        compute={"precision": precision},
        **{"sampling": {"max_response_tokens": response, "batch_rows": 24}} | changes,
    )
    return floors_of(made, WIDE, shards=1, samples=None)


def dynamic(parts: dict[str, float]) -> float:
    """What a stage makes while it runs: all but the parts that are there before."""
    return sum(size for name, size in parts.items() if name not in ("weights", "gradient", "optimizer", "reference"))


@PRECISIONS
def test_the_sampler_takes_at_least_the_floor(precision: str) -> None:
    from extra_rl.config.sections import SamplingConfig
    from extra_rl.sampling.base import Request
    from extra_rl.sampling.transformers import TransformersSampler

    sampler = TransformersSampler(model_of(WIDE, precision), [WIDE.vocabulary])  # nothing ends by itself
    requests = [Request((3, *[4 + row % 4] * 39), 80, row) for row in range(24)]
    sampling = SamplingConfig(batch_rows=24, max_response_tokens=80)
    counted = peak_bytes(lambda: sampler.sample(requests, sampling))
    parts = floors(precision, 40, 80)["generate"]
    assert 0.4 * counted < dynamic(parts) <= counted
    assert parts["weights"] == memory.BYTES[precision] * WIDE.parameters


@PRECISIONS
def test_the_scorer_takes_at_least_the_floor(precision: str) -> None:
    import torch

    from extra_rl.scoring.batches import TokenSequence
    from extra_rl.scoring.statistics import response_statistics

    model, batch = model_of(WIDE), [TokenSequence([3] * 50, [5] * 350)]

    def score() -> None:
        with torch.inference_mode():
            response_statistics(model, batch, 1.0, precision)

    assert dynamic(floors(precision)["score_entropy"]) <= peak_bytes(score)


@PRECISIONS
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_update_takes_at_least_the_floor(precision: str, checkpointing: bool) -> None:
    import torch

    model = model_of(WIDE).train()
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    counted = peak_bytes(micro_batch(model, precision))
    parts = floors(precision)["update"]
    assert dynamic(parts) <= counted
    assert parts["layer inputs"] == 4 * WIDE.layers * WIDE.hidden * 400
    assert parts["weights"] + parts["gradient"] + parts["optimizer"] == 16 * WIDE.parameters


def micro_batch(model: Any, precision: str) -> Any:
    """The trainer's own loss of one rollout, and its backward pass."""
    from extra_rl.config.sections import ComputeConfig, SamplingConfig
    from extra_rl.scoring.batches import TokenSequence
    from extra_rl.training.metrics import StepSums
    from extra_rl.training.rollouts import TrainingRollout
    from extra_rl.training.settings import UpdateSettings
    from extra_rl.training.trainer import Trainer

    settings = UpdateSettings(
        sampling=SamplingConfig(max_response_tokens=350),
        compute=ComputeConfig(precision=precision),
        tokens_per_batch=400,
        layout="padded",
    )
    trainer = Trainer(model, None, settings, None)  # type: ignore[arg-type]
    rollouts = [TrainingRollout("0", "g", TokenSequence([3] * 50, [5] * 350), [-1.0] * 350, [-1.0] * 350, 1.0, 0, 0)]
    return lambda: trainer._loss(rollouts, rollouts, StepSums()).backward()  # type: ignore[no-untyped-call]


def test_the_published_shape_by_hand() -> None:
    made = sections(compute={"precision": "bfloat16"}, update={"kl_weight": 0.1})
    found = floors_of(made, LARGE, shards=2, samples=3)
    cache = 2 * 28 * 8 * 128 * 2
    assert found["generate"] == {"weights": 2 * 1_720_574_976, "keys and values": 20 * 100 * cache}  # 40 by two shards
    assert found["evaluate"]["keys and values"] == 3 * (40 + 64) * cache
    assert found["score_entropy"]["cast weights"] == 2 * LARGE.layer_parameters
    assert found["update"]["reference"] == 4 * 1_720_574_976
    assert "regenerate" not in found


def test_continuations_are_sampled_separately_or_with_the_next_batch() -> None:
    groups = {"groups": 2, "prefixes_per_problem": 2, "continuations_per_prefix": 3}
    for when, rows in (("same_iteration", {"generate": 40, "regenerate": 12}), ("next_iteration", {"generate": 52})):
        made = floors_of(sections(choose_prefixes={**groups, "when": when}), WIDE, shards=1, samples=1)
        each = 100 * WIDE.cache_bytes(4)
        sampling = {stage: parts["keys and values"] for stage, parts in made.items() if "generate" in stage}
        assert sampling == {stage: count * each for stage, count in rows.items()}


def test_vllm_holds_the_weights_and_one_row() -> None:
    made = sections(sampling={"backend": "vllm", "max_response_tokens": 60, "engine": {"tensor_parallel": 2}})
    parts = floors_of(made, WIDE, shards=1, samples=None)["generate"]
    assert parts == {"weights": 4 * WIDE.parameters / 2, "keys and values": 100 * WIDE.cache_bytes(4) / 2}


def test_processes_share_weights_gradient_and_optimizer() -> None:
    one, four = (
        floors_of(sections(update={"processes": n}), replace(WIDE, layers=2), shards=1, samples=1)["update"]
        for n in (1, 4)
    )
    for name in ("weights", "gradient", "optimizer"):
        assert four[name] == one[name] / 4
    assert four["layer inputs"] == one["layer inputs"]


SMALL = Shape(40, hidden=32, layers=2, heads=4, kv_heads=2, head_dim=8, intermediate=64)


@pytest.mark.parametrize("targets", ["all_linear", ["q_proj", "down_proj"], ["k_proj", "o_proj", "up_proj"]])
def test_adapters_have_the_planned_number_of_parameters(targets: Any) -> None:
    from peft import LoraConfig, get_peft_model

    names = "all-linear" if targets == "all_linear" else targets
    found, _ = get_peft_model(random_qwen3(), LoraConfig(r=3, target_modules=names)).get_nb_trainable_parameters()
    update = {"lora": {"rank": 3, "targets": targets}, "optimizer": "adamw"}
    assert trained_parameters(update, SMALL) == found
    assert optimizer_bytes(update, SMALL) == 8 * found
    assert trained_parameters({"lora": None}, SMALL) == sum(p.numel() for p in random_qwen3().parameters())
