"""Policies of every family are loaded as they were saved: tied or not, sharded, in bfloat16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from extra_rl.models.policy import load_model, load_policy, load_tokenizer, save_policy
from extra_rl.models.probe import probe_of
from extra_rl.sampling.transformers import sampling_path
from extra_rl.scoring.layout import chosen
from tests.conftest import POLICY
from tests.zoo.families import FAMILIES, build, untouched
from tests.zoo.reference import token_ids

TOKENS = token_ids(20, 3)


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(torch.tensor([TOKENS])).logits.float()


def assert_equal(model: Any, other: Any) -> None:
    torch.testing.assert_close(logits(model), logits(other), atol=0, rtol=0)


def stored(directory: Path) -> dict[str, torch.Tensor]:
    """All tensors of the safetensors files of a directory."""
    found = {}
    for path in directory.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            found |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return found


@pytest.mark.parametrize("name", FAMILIES)
def test_a_saved_policy_is_loaded_unchanged(name: str, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.json"
    save_policy(manifest, untouched(name), load_tokenizer(POLICY), {})
    policy = load_policy(manifest)
    assert {p.dtype for p in policy.model.parameters()} == {torch.float32}
    assert not policy.model.training
    assert_equal(policy.model, untouched(name))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", ["Llama", "Gemma 2", "GPT-2", "Qwen3-MoE", "Phi-3", "GPT-NeoX", "Cohere"])
def test_heads_stay_tied_or_untied(name: str, tied: bool, tmp_path: Path) -> None:
    """A tied head is one tensor on disk and in memory, so that an update changes both; an untied one is two."""
    model = build(name, tie_word_embeddings=tied)
    save_policy(tmp_path / "manifest.json", model, load_tokenizer(POLICY), {})
    loaded = load_policy(tmp_path / "manifest.json").model
    assert_equal(loaded, model)
    head, embeddings = loaded.get_output_embeddings().weight, loaded.get_input_embeddings().weight
    assert (head is embeddings) == tied
    large = [value for value in stored(tmp_path).values() if value.shape == embeddings.shape]
    assert len(large) == (1 if tied else 2)
    embeddings.data[TOKENS[0]] += 1.0
    assert torch.equal(head[TOKENS[0]], embeddings[TOKENS[0]]) == tied
    assert sampling_path(loaded) == sampling_path(build(name))
    assert chosen("auto", loaded) == "shared_prefix"


@pytest.mark.parametrize("name", ["Llama", "Gemma 3", "GPT-2", "Qwen3-MoE", "gpt-oss", "Mamba"])
def test_a_sharded_checkpoint_is_loaded_whole(name: str, tmp_path: Path) -> None:
    untouched(name).save_pretrained(tmp_path, max_shard_size="50KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert (tmp_path / "model.safetensors.index.json").is_file()
    assert_equal(load_model(tmp_path), untouched(name))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_bfloat16_checkpoint_is_loaded_in_float32_and_in_bfloat16(name: str, tmp_path: Path) -> None:
    """In float32, as the pipeline trains it, the weights are exactly the rounded ones; in bfloat16 the probe chooses
    the same paths."""
    rounded = build(name)
    for parameter in rounded.parameters():
        parameter.data = parameter.data.bfloat16().float()
    build(name).to(torch.bfloat16).save_pretrained(tmp_path)
    assert torch.bfloat16 in {value.dtype for value in stored(tmp_path).values()}
    loaded = load_model(tmp_path)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert_equal(loaded, rounded)
    half = load_model(tmp_path, precision="bfloat16")
    sampling_path(half)
    chosen("auto", half)
    assert probe_of(half).dtype == "bfloat16"
    ranks = {what: decision.rank for what, decision in probe_of(half).decisions.items()}
    assert (ranks["sampling"] == "fast") == FAMILIES[name].fast
