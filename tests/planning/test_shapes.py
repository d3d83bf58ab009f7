"""Shapes: parameter counts against transformers' own models, and where a configuration's shape comes from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from extra_rl.config.sections import ModelConfig, ShapeConfig, TaskConfig
from extra_rl.errors import ConfigError, InputError
from extra_rl.planning.shapes import KNOWN, Shape, shape_of, shape_of_config
from tests.conftest import POLICY

WORDS = TaskConfig(name="signed_sum")


def model_of(shape: Shape) -> object:
    """transformers' Qwen3 of that shape, without memory."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    with torch.device("meta"):
        return Qwen3ForCausalLM(
            Qwen3Config(
                vocab_size=shape.vocabulary,
                hidden_size=shape.hidden,
                intermediate_size=shape.intermediate,
                num_hidden_layers=shape.layers,
                num_attention_heads=shape.heads,
                num_key_value_heads=shape.kv_heads,
                head_dim=shape.head_dim,
                tie_word_embeddings=shape.tied,
            )
        )


@pytest.mark.parametrize("name", KNOWN)
def test_parameters_are_those_of_the_model(name: str) -> None:
    model = model_of(KNOWN[name])
    assert KNOWN[name].parameters == sum(p.numel() for p in model.parameters())  # type: ignore[attr-defined]


def test_the_known_sizes() -> None:
    """As the models' cards and their safetensors state them."""
    found = {name.removeprefix("Qwen/Qwen3-"): shape.parameters for name, shape in KNOWN.items()}
    assert found["0.6B"] == 596_049_920
    assert found["1.7B"] == 1_720_574_976
    assert found["4B"] == 4_022_468_096
    assert found["8B"] == 8_190_735_360


def test_parts_of_a_small_shape_by_hand() -> None:
    shape = Shape(10, hidden=4, layers=2, heads=2, kv_heads=1, head_dim=3, intermediate=5)
    attention = 4 * 6 + 2 * 4 * 3 + 6 * 4  # q, k and v, o
    layer = attention + 3 * 4 * 5 + 2 * 4 + 2 * 3  # gate, up, down; two norms; norms of q and k
    assert shape.layer_parameters == 2 * layer + 4
    assert shape.parameters == 2 * layer + 4 + 40
    assert shape.cache_bytes(2) == 2 * 2 * 1 * 3 * 2


def test_a_new_model_has_the_shape_that_the_warm_start_makes() -> None:
    from extra_rl.problems.prepared import tokenizer_of
    from extra_rl.training.warm_start import ModelShape, new_model

    for tokenizer in ("words", "bytes"):
        config = ModelConfig(tokenizer=tokenizer, shape=ShapeConfig(hidden=32, layers=2, heads=2, intermediate=48))
        sizes = ModelShape(**config.shape.model_dump(), max_positions=config.context_tokens)
        model = new_model(tokenizer_of(WORDS, config), sizes, seed=0)
        assert shape_of(config, WORDS).parameters == sum(p.numel() for p in model.parameters())


def test_a_directory_is_read_without_the_network() -> None:
    from safetensors import safe_open

    shape = shape_of(ModelConfig(source=str(POLICY)), WORDS)
    with safe_open(POLICY / "model.safetensors", "np") as file:
        assert shape.parameters == sum(file.get_tensor(name).size for name in file.keys())  # noqa: SIM118
    assert shape.positions == json.loads((POLICY / "config.json").read_text())["max_position_embeddings"]


def test_a_base_model_is_known_with_its_own_context() -> None:
    base = shape_of(ModelConfig(source="Qwen/Qwen3-1.7B-Base"), WORDS)
    assert base.parameters == KNOWN["Qwen/Qwen3-1.7B"].parameters
    assert base.positions == 32_768


def test_unknown_models_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'someone/model' is no local directory.*Qwen3-1\.7B"):
        shape_of(ModelConfig(source="someone/model"), WORDS)
    with pytest.raises(InputError, match=r"config\.json: no such file"):
        shape_of(ModelConfig(source=str(tmp_path)), WORDS)
    file = tmp_path / "config.json"
    for text, said in (
        ("{", "not the configuration of a supported model"),
        ("{}", "missing key 'num_attention_heads'"),
    ):
        file.write_text(text)
        with pytest.raises(InputError, match=said):
            shape_of(ModelConfig(source=str(tmp_path)), WORDS)
    file.write_text('{"num_experts": 128}')
    with pytest.raises(InputError, match="a mixture of experts"):
        shape_of(ModelConfig(source=str(tmp_path)), WORDS)
    with pytest.raises(ConfigError, match=r"model\.tokenizer: `words` is for generated tasks"):
        shape_of(ModelConfig(), TaskConfig(name="math"))


def test_a_config_without_head_dim_derives_it() -> None:
    shape = shape_of_config(
        {
            "model_type": "llama",
            "vocab_size": 10,
            "hidden_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
        }
    )
    assert (shape.kv_heads, shape.head_dim, shape.tied, shape.qk_norm) == (2, 4, False, False)
