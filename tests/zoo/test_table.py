"""docs/models.md contains what is measured, and the families that users expect are on the fast path."""

from __future__ import annotations

import pytest

from extra_rl.models import family
from tests.conftest import ROOT
from tests.zoo.families import FAMILIES, untouched
from tests.zoo.table import COMMAND, measured, page, soft_cap_difference

REQUIRED = (
    *("Llama", "Mistral, window", "Qwen2", "Qwen2, window", "Qwen3", "Qwen3-MoE", "Gemma", "Gemma 2", "Gemma 3"),
    *("Phi-3", "OLMo 2", "SmolLM3", "StableLM", "GLM-4", "Granite", "Cohere", "Nemotron", "gpt-oss", "GPT-2"),
    *("GPT-NeoX", "Falcon"),
)


def test_the_zoo_contains_the_required_families() -> None:
    assert set(REQUIRED) <= set(FAMILIES)
    assert {name for name in REQUIRED if not FAMILIES[name].fast} == {"Falcon"}


@pytest.mark.parametrize("name", FAMILIES)
def test_fast_families_take_the_fast_paths(name: str) -> None:
    decisions = measured(name).decisions
    paths = (decisions["sampling"].path, decisions["scoring"].path)
    assert (paths == ("in-place cache", "shared_prefix")) == FAMILIES[name].fast
    assert (decisions["sampling"].rank == "fast") == FAMILIES[name].fast


def test_the_page_is_up_to_date() -> None:
    committed = (ROOT / "docs" / "models.md").read_text()
    assert page() == committed, f"docs/models.md is out of date: {COMMAND}"


def test_transformers_ignores_the_soft_cap_of_attention() -> None:
    """If a later version computes it, the paragraph on the page is wrong."""
    assert soft_cap_difference() > 0.1


def test_windows_are_read_and_layers_are_not() -> None:
    """`max_window_layers` and `_sliding_window_pattern` count layers."""
    found = {name: family.windows(untouched(name)) for name in FAMILIES}
    assert found["Qwen2"] == found["Qwen3"] == found["Llama"] == []
    windows = {name for name, row in FAMILIES.items() if 8 in row.values.values() and "window" in str(row.values)}
    assert {name for name, sizes in found.items() if sizes == [8]} == windows | {"Falcon-H1, hybrid"}
    assert {len(sizes) for sizes in found.values()} == {0, 1}
