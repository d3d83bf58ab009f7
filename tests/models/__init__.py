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
