"""Exports of policies that were trained with adapters: what peft reads, and either part alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from extra_rl.errors import InputError
from extra_rl.export.folder import export
from extra_rl.export.place import find
from extra_rl.models.policy import load_policy_model, load_tokenizer, save_policy
from extra_rl.training.lora import LoraConfig, adapter_tensors, load_adapted, write_adapter
from tests.conftest import POLICY
from tests.export.test_export import saved

LORA = LoraConfig(rank=4, alpha=8.0, targets=("q_proj", "up_proj"))


def adapted_run(results: Path) -> Path:
    """The policy of a run's first iteration, trained with adapters: here they are random."""
    initial = results / "warm_start" / "policy" / "manifest.json"
    section = {
        "steps": 0,
        "model": {"source": "me/tiny", "revision": "abc", "gguf_file": None},
        "task": {"name": "math"},
    }
    model, tokenizer = load_policy_model(POLICY / "manifest.json"), load_tokenizer(POLICY)
    saved(initial, model, tokenizer, name="s0/policy", job={"stage": "warm_start", "config": section})
    policy, adapted = load_adapted(initial, initial, LORA, seed=0)
    generator = torch.Generator().manual_seed(0)
    trained = adapter_tensors(policy.model)
    for value in trained.values():
        value.data.normal_(0, 0.3, generator=generator)
    merged = adapted.merge_and_unload()
    manifest = results / "extra" / "s0" / "iteration_0000" / "policy" / "manifest.json"
    job = {
        "stage": "update",
        "arm": "extra",
        "seed": 0,
        "iteration": 0,
        "config": {"lora": LORA.model_dump(mode="json")},
    }
    inputs = {"initial": {"name": "s0/policy", "digest": "x"}}
    save_policy(
        manifest,
        merged,
        policy.tokenizer,
        {"name": "extra/s0/i0/policy", "job": job, "inputs": inputs},
        lambda directory: write_adapter(directory, trained, initial, LORA),
    )
    return manifest


def logits_of(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model.eval()(input_ids=torch.arange(3, 25).unsqueeze(0)).logits
    return found


def test_peft_reads_the_adapter_and_the_merged_weights_equal_it(tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    manifest = adapted_run(tmp_path / "results" / "tiny")
    made = export(find(tmp_path / "results" / "tiny"), tmp_path / "out")
    settings = json.loads((tmp_path / "out" / "adapter" / "adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"], settings["target_modules"]) == (4, 8.0, ["q_proj", "up_proj"])
    assert (settings["base_model_name_or_path"], settings["revision"], made.base) == ("me/tiny", "abc", "me/tiny")
    with safe_open(tmp_path / "out" / "adapter" / "adapter_model.safetensors", "pt") as stored:
        names = list(stored.keys())
    assert len(names) == 3 * 2 * 2
    assert "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" in names
    base = AutoModelForCausalLM.from_pretrained(POLICY)
    before = logits_of(base)
    adapted = logits_of(PeftModel.from_pretrained(base, tmp_path / "out" / "adapter"))
    assert (adapted - before).abs().max() > 0.1
    torch.testing.assert_close(adapted, logits_of(load_policy_model(manifest)), atol=1e-4, rtol=0)
    merged = logits_of(AutoModelForCausalLM.from_pretrained(tmp_path / "out"))
    torch.testing.assert_close(merged, logits_of(load_policy_model(manifest)), atol=1e-5, rtol=0)


def test_only_one_part_of_an_adapted_policy_is_exported_on_request(tmp_path: Path) -> None:
    adapted_run(tmp_path / "results" / "tiny")
    policy = find(tmp_path / "results" / "tiny", arm="extra", iteration=0)
    export(policy, tmp_path / "merged", parts="merged")
    assert not (tmp_path / "merged" / "adapter").exists()
    export(policy, tmp_path / "only", parts="adapter", base="other/base", dtype="bfloat16")
    names = {path.name for path in (tmp_path / "only").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "README.md"} <= names
    assert "model.safetensors" not in names
    assert "config.json" not in names
    tensors = load_file(tmp_path / "only" / "adapter_model.safetensors")
    assert {value.dtype for value in tensors.values()} == {torch.bfloat16}
    card = (tmp_path / "only" / "README.md").read_text()
    assert "library_name: peft\n" in card
    assert "base_model: other/base\n" in card
    with pytest.raises(InputError, match="was trained without adapters"):
        export(find(tmp_path / "results" / "tiny" / "warm_start"), tmp_path / "none", parts="adapter")
