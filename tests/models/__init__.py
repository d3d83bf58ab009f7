"""Small models for tests."""

from __future__ import annotations

from typing import Any

EOS = 2


def random_qwen3(seed: int = 0, vocabulary: int = 40, kv_heads: int = 2) -> Any:
    """An untrained Qwen3 of two layers; its weights are large enough that distributions are not flat."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=kv_heads,
        head_dim=8,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=EOS,
        initializer_range=0.2,
    )
    return Qwen3ForCausalLM(config).eval()


SMALL = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": EOS,
    "initializer_range": 0.3,
}
GROUPED = {"num_key_value_heads": 2, "head_dim": 8}
FAMILIES: dict[str, dict[str, Any]] = {
    # name in transformers -> further keys of its configuration
    "GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
    "GPTNeoX": {},
    "Falcon": {},
    "OPT": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "Bloom": {},
}
"""Families whose configuration does not take GROUPED."""


def random_model(family: str, seed: int = 0, **config: Any) -> Any:
    """A random model of a family of transformers with two small layers and weights wide enough that errors show."""
    import torch
    import transformers

    class_name = {"GPT2": "GPT2LMHeadModel"}.get(family, f"{family}ForCausalLM")
    config_name = {"Gemma3": "Gemma3Text"}.get(family, family)
    values = {**SMALL, **FAMILIES.get(family, GROUPED), **config}
    torch.manual_seed(seed)
    model = getattr(transformers, class_name)(getattr(transformers, f"{config_name}Config")(**values))
    return model.eval()
