"""Parts of a model: head, logit transform, attention windows, layers, context."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from extra_rl.config.sections import ModelConfig
from extra_rl.errors import ModelError
from extra_rl.models.family import Head, backbone, context, decoder_layers, read_head, windows, without_dropout
from stages.warm_start import require_context
from tests.models import random_model, random_qwen3
from tests.zoo.families import build

TOKENS = torch.tensor([[3, 9, 4, 11, 25]])


@pytest.mark.parametrize(
    ("family", "config", "scale", "cap"),
    [
        ("Qwen3", {}, 1.0, None),
        ("Granite", {"logits_scaling": 7.0}, 1 / 7, None),
        ("Cohere", {"logit_scale": 0.0625}, 0.0625, None),
        ("Gemma2", {"final_logit_softcapping": 30.0}, 1.0, 30.0),
        ("Gemma2", {"final_logit_softcapping": None}, 1.0, None),
        ("NanoChat", {"final_logit_softcapping": 15.0}, 1.0, 15.0),
    ],
)
def test_the_transform_of_the_logits_is_observed(
    family: str, config: dict[str, Any], scale: float, cap: float | None
) -> None:
    model = random_model(family, **config)
    head = read_head(model)
    assert head is not None
    assert (head.scale, head.cap) == (scale, cap)  # exactly: the configuration's own number
    with torch.inference_mode():
        expected = model(TOKENS).logits
        found = head.logits(backbone(model)(TOKENS).last_hidden_state)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_cap_is_found_with_small_weights() -> None:
    """A soft cap of 30 has no visible effect on logits of 0.01."""
    model = random_model("Gemma2", initializer_range=1e-4)
    head = read_head(model)
    assert head is not None
    assert head.cap == 30.0


@pytest.mark.parametrize("change", [lambda z: z.clamp(-50, 50), lambda z: z + 1, lambda z: z * z.abs(), torch.asinh])
def test_another_transform_is_not_explained(change: Any) -> None:
    model = random_qwen3()
    forward = model.forward

    def changed(*given: Any, **options: Any) -> Any:
        found = forward(*given, **options)
        found.logits = change(found.logits)
        return found

    model.forward = changed
    assert read_head(model) is None


def test_a_head_that_does_not_read_the_last_hidden_state_is_not_explained() -> None:
    assert read_head(random_model("OPT")) is None  # it has a projection in between


def test_reading_the_head_does_not_change_the_model() -> None:
    model = random_model("Granite", logits_scaling=7.0)
    with torch.inference_mode():
        before = model(TOKENS).logits
        read_head(model)
        assert torch.equal(model(TOKENS).logits, before)
    assert not model.get_output_embeddings()._forward_hooks


@pytest.mark.parametrize(("dtype", "kind"), [(torch.bfloat16, "bfloat16"), (torch.float32, "float32")])
def test_a_bfloat16_model_has_the_same_transform(dtype: torch.dtype, kind: str) -> None:
    head = read_head(random_model("Granite", logits_scaling=7.0).to(dtype))
    assert head is not None
    assert head.scale == 1 / 7
    assert str(head.module.weight.dtype) == f"torch.{kind}"


def test_windows_in_the_configuration() -> None:
    assert windows(random_model("Mistral", sliding_window=6)) == [6]
    assert windows(random_qwen3()) == []


@pytest.mark.parametrize("family", ["Llama", "GPT2", "GPTNeoX", "Falcon", "OPT", "Bloom"])
def test_the_decoder_layers_are_found(family: str) -> None:
    assert len(decoder_layers(random_model(family))) == 2


def test_a_model_without_parts_is_refused() -> None:
    with pytest.raises(ModelError, match="no list of decoder layers"):
        decoder_layers(torch.nn.Linear(2, 2))


def test_training_has_no_dropout_except_that_of_adapters() -> None:
    from peft import LoraConfig, get_peft_model

    model = random_model("GPT2", resid_pdrop=0.5, attn_pdrop=0.5)
    with torch.inference_mode():
        expected = model(TOKENS).logits
    model.train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    without_dropout(model)
    torch.testing.assert_close(model(TOKENS, use_cache=False).logits, expected)
    assert any(module.training for module in decoder_layers(model))  # checkpointing needs training mode
    adapted = get_peft_model(random_qwen3(), LoraConfig(r=2, lora_dropout=0.5, target_modules=["q_proj"]))
    without_dropout(adapted)
    dropping = [m for m in adapted.modules() if isinstance(m, torch.nn.Dropout) and m.training]
    assert len(dropping) == 2


def test_a_head_scales_and_caps_by_hand() -> None:
    linear = torch.nn.Linear(1, 2, bias=False)
    linear.weight.data[:] = torch.tensor([[1.0], [-4.0]])
    found = Head(linear, scale=0.5, cap=2.0).logits(torch.tensor([[4.0]]))
    assert found.tolist() == [[pytest.approx(2 * 0.76159416), pytest.approx(-2 * 0.99932930)]]  # tanh(1), tanh(4)


SCALED = {"rope_theta": 1e4, "factor": 4.0}
LONG = {**SCALED, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "original_max_position_embeddings": 16}


@pytest.mark.parametrize(
    ("name", "changes", "tokens"),
    [
        ("Llama", {}, 256),
        ("GPT-2", {"max_position_embeddings": 50}, 50),
        ("Llama", {"max_position_embeddings": 16, "rope_parameters": {**SCALED, "rope_type": "dynamic"}}, 16),
        ("Llama", {"rope_parameters": {**LONG, "rope_type": "longrope"}}, 16),
        ("Llama", {"rope_parameters": {**SCALED, "rope_type": "linear"}}, 256),
    ],
)
def test_the_context_of_a_model(name: str, changes: dict[str, Any], tokens: int) -> None:
    assert context(build(name, **changes).config) == tokens
    assert context(transformers.BloomConfig()) is None


def test_a_run_that_exceeds_the_context_of_the_model_is_refused() -> None:
    config = ModelConfig(source="MODEL", context_tokens=257)
    with pytest.raises(ModelError, match=r"MODEL: .*256 .*context_tokens is 257"):
        require_context(build("GPT-2"), config)
    require_context(build("GPT-2"), config.model_copy(update={"context_tokens": 256}))
