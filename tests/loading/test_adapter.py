"""Adapter directories are merged into their base model, or refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from extra_rl.errors import ModelError
from extra_rl.evaluation.policies import find_policy
from extra_rl.models.load import read_config
from extra_rl.models.policy import load_model, load_policy, load_tokenizer, save_policy
from tests.loading.checkpoints import TOKENIZER, change_json, checkpoint
from tests.loading.test_load import logits


def adapter(
    base: Path, folder: Path, kind: str = "LoraConfig", named: str | None = None, **settings: Any
) -> torch.Tensor:
    """Writes a random adapter over `base` to `folder`; returns the logits that peft computes with it."""
    import peft
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(base)
    given = {"target_modules": ["q_proj", "up_proj"], **settings}
    if kind == "LoraConfig":
        given = {"r": 4, "init_lora_weights": False, **given}
    adapted = peft.get_peft_model(model, getattr(peft, kind)(**given)).eval()
    adapted.save_pretrained(folder)
    if named is not None:
        change_json(folder / "adapter_config.json", base_model_name_or_path=named)
    return logits(adapted)


def test_an_adapter_is_merged_into_its_base(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, folder = checkpoint(tmp_path / "base"), tmp_path / "adapter"
    expected = adapter(base, folder)
    assert not torch.allclose(expected, logits(load_model(base)), atol=1e-2)
    model = load_model(folder)
    assert f"{folder}: adapter (LORA) merged over {base}" in capsys.readouterr().err
    torch.testing.assert_close(logits(model), expected, atol=1e-5, rtol=1e-5)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert set(model.state_dict()) == set(load_model(base).state_dict())
    save_policy(tmp_path / "saved" / "manifest.json", model, load_tokenizer(folder), {})
    shutil.rmtree(base)
    shutil.rmtree(folder)
    again = load_policy(tmp_path / "saved" / "manifest.json")
    torch.testing.assert_close(logits(again.model), logits(model), atol=0, rtol=0)
    assert {path.name for path in (tmp_path / "saved").iterdir() if "adapter" in path.name} == set()


def test_the_base_is_relative_to_the_adapter_or_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, folder = checkpoint(tmp_path / "models" / "base"), tmp_path / "models" / "adapter"
    expected = adapter(base, folder, named="../base")
    torch.testing.assert_close(logits(load_model(folder)), expected, atol=1e-5, rtol=1e-5)
    change_json(folder / "adapter_config.json", base_model_name_or_path="models/base")
    monkeypatch.chdir(tmp_path)
    torch.testing.assert_close(logits(load_model("models/adapter")), expected, atol=1e-5, rtol=1e-5)
    assert read_config(folder)["hidden_size"] == 32
    for missing in (str(tmp_path / "gone"), "./gone", "a/b/c", ""):
        change_json(folder / "adapter_config.json", base_model_name_or_path=missing)
        with pytest.raises(ModelError, match=r"adapter_config\.json: .*base_model_name_or_path"):
            load_model(folder)


def test_the_tokenizer_is_that_of_the_adapter_or_of_its_base(tmp_path: Path) -> None:
    base, folder = checkpoint(tmp_path / "base"), tmp_path / "adapter"
    adapter(base, folder)
    assert load_tokenizer(folder).get_vocab() == TOKENIZER.get_vocab()
    (base / "tokenizer.json").rename(folder / "tokenizer.json")
    shutil.copy(base / "tokenizer_config.json", folder)
    assert load_tokenizer(folder).get_vocab() == TOKENIZER.get_vocab()


def test_an_adapter_that_does_not_fit_its_base_is_refused(tmp_path: Path) -> None:
    base, folder = checkpoint(tmp_path / "base"), tmp_path / "adapter"
    adapter(base, folder)
    for sizes, expected in (
        ({"num_hidden_layers": 1}, r"tensors belong to no layer of the base \(model\.layers\.1"),
        ({"num_hidden_layers": 3}, r"tensors are missing \(model\.layers\.2"),
        ({"hidden_size": 64}, r"tensors have another shape \(model\.layers\.0"),
    ):
        other = checkpoint(tmp_path / f"{next(iter(sizes))}{next(iter(sizes.values()))}", **sizes)
        change_json(folder / "adapter_config.json", base_model_name_or_path=str(other))
        with pytest.raises(ModelError, match=expected) as caught:
            load_model(folder)
        assert f"{folder}: " in str(caught.value)
        assert str(other) in str(caught.value)
    change_json(folder / "adapter_config.json", base_model_name_or_path=str(base))
    load_model(folder)
    weights = folder / "adapter_model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-100])
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors: .*truncated"):
        load_model(folder)
    weights.unlink()
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors: .*missing"):
        load_model(folder)


def test_a_damaged_base_is_refused(tmp_path: Path) -> None:
    base, folder = checkpoint(tmp_path / "base"), tmp_path / "adapter"
    adapter(base, folder)
    change_json(base / "config.json", num_hidden_layers=1)
    with pytest.raises(ModelError, match=f"{base}: .*LlamaForCausalLM"):
        load_model(folder)


def test_a_directory_with_a_whole_model_and_an_adapter(tmp_path: Path) -> None:
    base, folder = checkpoint(tmp_path / "base"), tmp_path / "both"
    expected = adapter(base, folder)
    shutil.copytree(base, folder, dirs_exist_ok=True)
    with pytest.raises(ModelError, match=r"both: .* a whole model .* an adapter .*Move adapter_config\.json away"):
        load_model(folder)
    change_json(folder / "adapter_config.json", base_model_name_or_path=".")
    torch.testing.assert_close(logits(load_model(folder)), expected, atol=1e-5, rtol=1e-5)
    (folder / "adapter_model.safetensors").unlink()  # left over from a merge
    torch.testing.assert_close(logits(load_model(folder)), logits(load_model(base)), atol=0, rtol=0)
    adapter(base, tmp_path / "config")
    shutil.copy(base / "config.json", tmp_path / "config")  # some trainers leave the base's config there
    torch.testing.assert_close(logits(load_model(tmp_path / "config")), expected, atol=1e-5, rtol=1e-5)


def test_an_adapter_over_an_adapter_and_over_itself(tmp_path: Path) -> None:
    base, first, second = checkpoint(tmp_path / "base"), tmp_path / "first", tmp_path / "second"
    adapter(base, first)
    save_policy(tmp_path / "merged" / "manifest.json", load_model(first), TOKENIZER, {})
    expected = adapter(tmp_path / "merged", second, named=str(first), target_modules=["down_proj"])
    torch.testing.assert_close(logits(load_model(second)), expected, atol=1e-4, rtol=1e-4)
    change_json(first / "adapter_config.json", base_model_name_or_path=str(second))
    with pytest.raises(ModelError, match="itself"):
        load_model(second)


def test_an_adapter_with_a_trained_head_unties_the_head(tmp_path: Path) -> None:
    base, folder = checkpoint(tmp_path / "base", tie_word_embeddings=True), tmp_path / "adapter"
    adapter(base, folder, modules_to_save=["lm_head"])
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "adapter_model.safetensors")
    head = next(name for name in tensors if "lm_head" in name)
    save_file({**tensors, head: tensors[head] + 0.5}, folder / "adapter_model.safetensors", {"format": "pt"})
    model = load_model(folder)
    assert not model.config.tie_word_embeddings
    save_policy(tmp_path / "saved" / "manifest.json", model, TOKENIZER, {})
    again = load_model(tmp_path / "saved")
    torch.testing.assert_close(logits(again), logits(model), atol=0, rtol=0)
    torch.testing.assert_close(again.lm_head.weight, load_model(base).lm_head.weight + 0.5)


def test_an_adapter_that_adds_tokens_is_refused(tmp_path: Path) -> None:
    base, folder = checkpoint(tmp_path / "base"), tmp_path / "adapter"
    from peft import PromptTuningConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    settings = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), settings).save_pretrained(folder)
    with pytest.raises(ModelError, match="PROMPT_TUNING"):
        load_model(folder)


@pytest.mark.parametrize("settings", [{"use_dora": True}, {"use_rslora": True}, {"bias": "lora_only"}])
def test_kinds_of_lora(tmp_path: Path, settings: dict[str, Any]) -> None:
    base = checkpoint(tmp_path / "base", attention_bias=True)
    expected = adapter(base, tmp_path / "adapter", **settings)
    torch.testing.assert_close(logits(load_model(tmp_path / "adapter")), expected, atol=1e-4, rtol=1e-4)


def test_the_digest_of_an_evaluated_adapter_covers_its_base(tmp_path: Path) -> None:
    base, folder = checkpoint(tmp_path / "base"), tmp_path / "adapter"
    adapter(base, folder)
    before = find_policy(str(folder)).digest
    assert find_policy(str(folder)).digest == before
    content = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**content, "rms_norm_eps": 1e-3}))
    assert find_policy(str(folder)).digest != before
