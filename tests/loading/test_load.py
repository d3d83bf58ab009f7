"""A checkpoint is loaded completely, or refused with an error of one line that names the fault."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from extra_rl.errors import ModelError
from extra_rl.models.checks import require_finite, require_vocabulary
from extra_rl.models.policy import load_model, load_policy, load_tokenizer, save_policy
from extra_rl.models.tokenizers import word_level
from tests.loading.checkpoints import FAMILIES, TOKENIZER, change_json, change_weights, checkpoint

TOKENS = torch.arange(3, 13).unsqueeze(0)


def refusal(source: Path | str, **options: Any) -> str:
    """The message with which loading is refused: one line that contains the source."""
    with pytest.raises(ModelError) as caught:
        load_model(source, **options)
    assert "\n" not in str(caught.value)
    assert str(source) in str(caught.value)
    return str(caught.value)


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=TOKENS).logits
        return found


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [True, False])
def test_a_checkpoint_is_loaded_saved_and_loaded_again(tmp_path: Path, family: str, tied: bool) -> None:
    import transformers

    folder = checkpoint(tmp_path / "given", family, tie_word_embeddings=tied)
    model = load_model(folder)
    reference = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    torch.testing.assert_close(logits(model), logits(reference), atol=0, rtol=0)
    assert not model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    save_policy(tmp_path / "saved" / "manifest.json", model, load_tokenizer(folder), {})
    again = load_policy(tmp_path / "saved" / "manifest.json")
    torch.testing.assert_close(logits(again.model), logits(model), atol=0, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_tensors_that_do_not_fit_are_named(tmp_path: Path, family: str, capfd: pytest.CaptureFixture[str]) -> None:
    folder = checkpoint(tmp_path, family)
    layer = "transformer.h.1." if family == "GPT2" else "model.layers.1."
    original = (folder / "model.safetensors").read_bytes()
    capfd.readouterr()

    def refused(change: Callable[[dict[str, Any]], dict[str, Any]]) -> str:
        (folder / "model.safetensors").write_bytes(original)
        change_weights(folder, change)
        return refusal(folder)

    message = refused(lambda weights: {f"module.{name}": value for name, value in weights.items()})
    assert "`module.`" in message
    message = refused(lambda weights: {name: value for name, value in weights.items() if layer not in name})
    assert f"are missing ({layer}" in message
    assert " more)" in message
    extra = {f"{layer.replace('1', '7')}norm.weight": torch.ones(4)}
    assert f"do not belong to the model ({next(iter(extra))})" in refused(lambda weights: weights | extra)
    name = next(
        name for name in sorted(json_names(folder, original)) if (layer in name and "norm" in name) or "ln_" in name
    )
    message = refused(lambda weights: weights | {name: torch.ones(5)})
    assert f"{name}: (5,) in the checkpoint, (32,)" in message
    assert capfd.readouterr() == ("", "")  # not the library's report


def json_names(folder: Path, content: bytes) -> set[str]:
    return set(json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])) - {"__metadata__"}


def test_tensors_that_a_family_ignores_are_accepted(tmp_path: Path) -> None:
    llama, gpt2 = checkpoint(tmp_path / "llama"), checkpoint(tmp_path / "gpt2", "GPT2")
    change_weights(llama, lambda weights: weights | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)})
    load_model(llama)
    change_weights(  # the names of the first GPT-2 checkpoints: no prefix, and the causal mask among the weights
        gpt2,
        lambda weights: (
            {name.removeprefix("transformer."): value for name, value in weights.items()}
            | {"h.0.attn.bias": torch.ones(1, 1, 64, 64)}
        ),
    )
    load_model(gpt2)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_weight_that_is_not_finite_is_named(tmp_path: Path, value: float, precision: str) -> None:
    folder = checkpoint(tmp_path)
    name = "model.layers.1.mlp.up_proj.weight"

    def spoil(weights: dict[str, Any]) -> dict[str, Any]:
        weights[name][3, 5] = value
        return weights

    change_weights(folder, spoil)
    assert f"NaN or infinity ({name})" in refusal(folder, precision=precision)


def test_large_finite_weights_pass() -> None:
    """Their sum overflows, so their elements are checked."""
    model = torch.nn.Linear(4, 4)
    torch.nn.init.constant_(model.weight, 3e38)
    require_finite("x", model, "")


def test_damaged_files_are_named(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path)
    file = folder / "model.safetensors"
    content = file.read_bytes()
    for broken in (content[:-1000], content[:100], b"", b"\0" * 2000):
        file.write_bytes(broken)
        assert f"{file}: " in refusal(folder)
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n")
    assert "git lfs pull" in refusal(folder)
    file.unlink()
    assert "no weights" in refusal(folder)
    file.write_bytes(content)
    for name, text in (("config.json", "{"), ("config.json", "[]"), ("generation_config.json", '{"eos_token_id": 2')):
        before = (folder / name).read_text()
        (folder / name).write_text(text)
        assert f"{folder / name}: " in refusal(folder)
        (folder / name).write_text(before)
    load_model(folder)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    import transformers

    checkpoint(tmp_path / "whole")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "whole")
    model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    shards = sorted((tmp_path / "shards").glob("model-*.safetensors"))
    assert len(shards) > 2
    torch.testing.assert_close(logits(load_model(tmp_path / "shards")), logits(load_model(tmp_path / "whole")))
    shards[1].unlink()
    assert f"{shards[1]}: missing" in refusal(tmp_path / "shards")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"model_type": "no_such_model"}, "no_such_model"),
        ({"model_type": None, "architectures": None}, "model_type"),
        ({"num_hidden_layers": "four"}, "num_hidden_layers"),
        ({"num_hidden_layers": 1}, "9 tensors do not belong to the model"),
        ({"num_hidden_layers": 3}, "9 of the model's tensors are missing"),
        ({"hidden_size": 64}, "have another shape"),
        ({"hidden_act": "no_such_function"}, "no_such_function"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "(?i)gptq"),
    ],
)
def test_a_config_that_does_not_fit_the_weights(tmp_path: Path, change: dict[str, Any], expected: str) -> None:
    import re

    folder = checkpoint(tmp_path)
    change_json(folder / "config.json", **change)
    assert re.search(expected, refusal(folder))


def test_other_kinds_of_models_are_refused(tmp_path: Path) -> None:
    import transformers

    bert = checkpoint(tmp_path / "bert", "Bert", "ForMaskedLM")
    assert "is an encoder" in refusal(bert)
    sizes = transformers.T5Config(vocab_size=40, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    transformers.T5ForConditionalGeneration(sizes).save_pretrained(tmp_path / "t5")
    assert "T5Config" in refusal(tmp_path / "t5")
    assert len(refusal(tmp_path / "t5")) < 400
    reward = checkpoint(tmp_path / "reward", "Llama", "ForSequenceClassification")
    assert "score.weight" in refusal(reward)
    decoder = checkpoint(tmp_path / "decoder", "Bert", "LMHeadModel", is_decoder=True)
    load_model(decoder)


def test_pickles_are_read_or_refused(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path)
    expected = logits(load_model(folder))
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    torch.testing.assert_close(logits(load_model(folder)), expected)
    (folder / "pytorch_model.bin").write_bytes((folder / "pytorch_model.bin").read_bytes()[:-3000])
    assert "cannot load a causal language model from this directory" in refusal(folder)
    (folder / "pytorch_model.bin").write_bytes(b"junk")
    assert "cannot load a causal language model from this directory" in refusal(folder)


def test_a_source_that_is_not_a_model_is_refused(tmp_path: Path) -> None:
    assert "no such directory" in refusal(tmp_path / "nowhere")
    assert str(tmp_path / "config.json") in refusal(tmp_path)
    (tmp_path / "file.txt").touch()
    assert "is a file" in refusal(tmp_path / "file.txt")
    folder = checkpoint(tmp_path / "model")
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match=r"tokenizer\.json: not readable as JSON"):
        load_tokenizer(folder)


def test_tokens_without_a_row_in_the_embedding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = checkpoint(tmp_path / "a")
    model = load_model(folder)
    require_vocabulary("x", model, TOKENIZER)
    with pytest.raises(ModelError, match=r"40 rows: '37' \(id 40\), '38' \(id 41\)"):
        require_vocabulary("x", model, word_level([str(number) for number in range(39)]))
    tokenizer = load_tokenizer(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    assert capsys.readouterr().err == ""
    require_vocabulary("x", model, tokenizer)  # as in Gemma 3; it does not occur in text
    assert "'<image>' (id 40)" in capsys.readouterr().err
    tokenizer.add_special_tokens({"pad_token": "<fill>"})
    tokenizer.save_pretrained(folder)
    shutil.copytree(folder, tmp_path / "b")
    from extra_rl.models.policy import load_directory

    with pytest.raises(ModelError, match=r"'<fill>' \(id 41\)"):
        load_directory(tmp_path / "b")


@pytest.mark.parametrize(("kind", "named"), [(torch.int8, "I8"), (torch.float8_e4m3fn, "F8_E4M3")])
def test_quantised_weights_without_a_quantization_config_are_refused(
    tmp_path: Path, kind: torch.dtype, named: str
) -> None:
    folder = checkpoint(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    save_file(tensors | {name: tensors[name].to(kind)}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=rf"model\.safetensors: {name} .* {named}, .*quantization_config"):
        load_model(folder)
