"""Which layout a model is computed in."""

from __future__ import annotations

import pytest
from transformers import AutoModelForCausalLM, Qwen3Config

from extra_rl.errors import ConfigError
from extra_rl.forward.layout import chosen
from tests.models import random_qwen3


def test_auto_shares_prefixes_wherever_all_layers_attend_in_full() -> None:
    assert chosen("auto", random_qwen3()) == "shared_prefix"
    assert chosen("packed", random_qwen3()) == "packed"
    assert chosen("padded", random_qwen3()) == "padded"


def test_a_sliding_window_is_padded_or_refused() -> None:
    config = Qwen3Config(
        vocab_size=16,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=2,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=8,
        use_sliding_window=True,
        sliding_window=4,
        max_window_layers=1,
    )
    model = AutoModelForCausalLM.from_config(config)
    assert chosen("auto", model) == "padded"
    with pytest.raises(ConfigError, match="layout: packed needs a model whose layers all attend in full, and qwen3"):
        chosen("packed", model)
