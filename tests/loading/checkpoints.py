"""Tiny checkpoints of several families on disk, and ways to damage them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from extra_rl.models.tokenizers import word_level

TOKENIZER = word_level([str(number) for number in range(37)])  # 40 ids with pad, bos and eos
SIZES: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
OWN: dict[str, dict[str, Any]] = {
    "Qwen3Moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    "GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64},
    "Bert": {"is_decoder": False},
}
FAMILIES = ("Llama", "Gemma2", "GPT2", "Qwen3Moe")


def checkpoint(folder: Path, family: str = "Llama", head: str = "ForCausalLM", **config: Any) -> Path:
    """A random model of a family with the word tokenizer, as `save_pretrained` writes it."""
    import torch
    import transformers

    torch.manual_seed(0)
    head = "LMHeadModel" if family == "GPT2" and head == "ForCausalLM" else head
    sizes = getattr(transformers, f"{family}Config")(**{**SIZES, **OWN.get(family, {}), **config})
    getattr(transformers, f"{family}{head}")(sizes).save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    return folder


def change_weights(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Rewrite model.safetensors with changed tensors."""
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def change_json(path: Path, **values: Any) -> None:
    """Set keys of a JSON file; None removes a key."""
    content = {**(json.loads(path.read_text()) if path.exists() else {}), **values}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def flip_a_bit(path: Path, place: int = -8) -> None:
    """Change one bit and restore size and mtime, as a failing disk would."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
