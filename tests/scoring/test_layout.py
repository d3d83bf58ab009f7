"""The choice of a layout for a model."""

from __future__ import annotations

import pytest

from extra_rl.errors import ConfigError
from extra_rl.scoring.layout import budget_of, chosen
from tests.models import random_model, random_qwen3


def test_auto_shares_prefixes_where_all_layers_attend_in_full() -> None:
    assert chosen("auto", random_qwen3()) == "shared_prefix"
    assert chosen("packed", random_qwen3()) == "packed"
    assert chosen("padded", random_qwen3()) == "padded"


def test_layers_with_windows_are_packed_too() -> None:
    model = random_model("Qwen3", use_sliding_window=True, sliding_window=6, max_window_layers=1)
    assert chosen("auto", model) == "shared_prefix"
    assert chosen("packed", model) == "packed"


def test_a_family_with_its_own_attention_is_padded_or_refused() -> None:
    model = random_model("Falcon")
    assert chosen("auto", model) == chosen("padded", model) == "padded"
    with pytest.raises(ConfigError, match=r"layout: packed cannot be used for Falcon"):
        chosen("packed", model)


def test_logits_of_an_unknown_transform_are_computed_by_the_model_itself() -> None:
    model = random_model("OPT")
    assert chosen("auto", model) == chosen("padded", model) == "plain"
    assert budget_of("plain", model, 10**9) < budget_of("padded", model, 10**9) == 10**9


def test_the_choice_does_not_depend_on_earlier_calls() -> None:
    model = random_qwen3()
    assert [chosen(layout, model) for layout in ("padded", "auto", "padded")] == ["padded", "shared_prefix", "padded"]
