"""LoRA: the layers that get adapters in each family; the merged policy equals the adapted one."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from extra_rl.errors import ConfigError
from extra_rl.models.policy import load_model, load_tokenizer, save_policy
from extra_rl.scoring.layout import chosen, token_statistics
from extra_rl.training.lora import LoraConfig, adapter_tensors, load_adapted
from tests.conftest import POLICY
from tests.zoo.families import build
from tests.zoo.reference import CLOSE, sequences, statistics

QKVO, LLAMA_MLP = ("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")
TARGETS = {
    "Llama": (*QKVO, *LLAMA_MLP),
    "Gemma 2": (*QKVO, *LLAMA_MLP),
    "GPT-2": ("c_attn", "c_proj", "c_fc"),
    # All experts of a layer are two parameters; peft wraps one adapter around the other.
    "Qwen3-MoE": (*QKVO, "gate", "experts", "base_layer"),
    "Phi-3": ("qkv_proj", "o_proj", "gate_up_proj", "down_proj"),
    "GPT-NeoX": ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"),
}


@pytest.fixture
def initial(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The manifest of a policy of the family that the test is called with."""
    manifest = tmp_path / "initial" / "manifest.json"
    save_policy(manifest, build(request.node.callspec.params["name"]), load_tokenizer(POLICY), {})
    return manifest


def logprobs(model: Any, layout: str = "padded") -> torch.Tensor:
    with torch.inference_mode():
        return token_statistics(model, sequences(), 1.0, "float32", layout)[0]


@pytest.mark.parametrize("name", TARGETS)
def test_targets_are_found_and_the_merged_policy_equals_the_adapted_one(
    name: str, initial: Path, tmp_path: Path
) -> None:
    policy, adapted = load_adapted(initial, initial, LoraConfig(rank=4), seed=0)
    chosen("auto", policy.model)  # measured before adapters, as the update does
    trained = adapter_tensors(policy.model)
    found = Counter(parameter.split(".lora_")[0].rpartition(".")[2] for parameter in trained)
    assert set(found) == set(TARGETS[name])
    per_layer = {"c_proj": 2}  # in attention and MLP
    assert found == {target: 3 * 2 * per_layer.get(target, 1) for target in TARGETS[name]}
    before = logprobs(policy.model)
    random = torch.Generator().manual_seed(0)
    for value in trained.values():
        value.data.normal_(0, 0.1, generator=random)
    expected = logprobs(policy.model)
    assert (expected - before).abs().max() > 0.1
    torch.testing.assert_close(logprobs(policy.model, chosen("auto", policy.model)), expected, atol=CLOSE, rtol=0)
    merged = tmp_path / "next" / "manifest.json"
    save_policy(merged, adapted.merge_and_unload(), policy.tokenizer, {})
    loaded = load_model(merged.parent)
    torch.testing.assert_close(logprobs(loaded), expected, atol=CLOSE, rtol=0)
    assert set(loaded.state_dict()) == set(build(name).state_dict())
    for sequence, row in zip(sequences(), expected, strict=True):
        with torch.inference_mode():
            own_T, _ = statistics(loaded, sequence, 1.0)
        torch.testing.assert_close(row[: len(own_T)].double(), own_T, atol=CLOSE, rtol=0)


@pytest.mark.parametrize("name", ["Qwen3-MoE", "GPT-2"])
def test_gradients_reach_every_adapter(name: str, initial: Path) -> None:
    policy, _ = load_adapted(initial, initial, LoraConfig(rank=4), seed=0)
    for parameter, value in adapter_tensors(policy.model).items():
        if "lora_B" in parameter:
            value.data.normal_(0, 0.1)
    token_statistics(policy.model, sequences(), 1.0, "float32", "padded")[0].sum().backward()
    for parameter, value in adapter_tensors(policy.model).items():
        assert value.grad is not None
        assert value.grad.abs().max() > 0, parameter


@pytest.mark.parametrize("name", ["Gemma 2"])
def test_a_tied_head_stays_tied(name: str, initial: Path, tmp_path: Path) -> None:
    policy, adapted = load_adapted(initial, initial, LoraConfig(rank=4), seed=0)
    merged = tmp_path / "next" / "manifest.json"
    save_policy(merged, adapted.merge_and_unload(), policy.tokenizer, {})
    assert json.loads((merged.parent / "config.json").read_text()).get("tie_word_embeddings", True)
    loaded = load_model(shutil.copytree(merged.parent, tmp_path / "copy"))
    assert loaded.lm_head.weight is loaded.get_input_embeddings().weight


@pytest.mark.parametrize("name", ["Mamba"])
def test_a_family_without_adapters_in_peft_is_refused(name: str, initial: Path) -> None:
    with pytest.raises(ConfigError, match=r"update\.lora\.targets: .*Mamba"):
        load_adapted(initial, initial, LoraConfig(rank=4), seed=0)
