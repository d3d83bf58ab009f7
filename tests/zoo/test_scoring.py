"""Scoring gives every family's own logprobs and entropies, in each layout that the family allows."""

from __future__ import annotations

import pytest
import torch

from extra_rl.errors import ConfigError
from extra_rl.scoring import head
from extra_rl.scoring.layout import Layout, chosen, token_statistics
from tests.zoo.families import FAMILIES, shared, untouched
from tests.zoo.reference import CLOSE, sequences, statistics


def assert_scored(name: str, layout: str, temperature: float) -> None:
    """Logprob and entropy of `sequences` in a layout that `chosen` gave are those of the model's own forward pass."""
    with torch.inference_mode():
        logprob_BT, entropy_BT, mask_BT = token_statistics(shared(name), sequences(), temperature, "float32", layout)
        for row, sequence in enumerate(sequences()):
            own = statistics(untouched(name), sequence, temperature)
            for found_T, own_T in zip((logprob_BT[row], entropy_BT[row]), own, strict=True):
                torch.testing.assert_close(found_T[mask_BT[row]].double(), own_T, atol=CLOSE, rtol=0)
                assert not found_T[~mask_BT[row]].any()


@pytest.mark.parametrize("name", FAMILIES)
def test_logprob_and_entropy_are_the_models_own(name: str) -> None:
    model = shared(name)
    used = {chosen("auto", model), chosen("padded", model)}
    packed: tuple[Layout, ...] = ("packed", "shared_prefix")
    for layout in packed:
        if "shared_prefix" in used:
            used.add(chosen(layout, model))
        else:
            with pytest.raises(ConfigError, match=f"layout: {layout} cannot be used for "):
                chosen(layout, model)
    assert used == {"shared_prefix", "padded", "packed"} or used in ({"padded"}, {"plain"})
    for layout in sorted(used):
        assert_scored(name, layout, 0.7)


@pytest.mark.parametrize("name", ["Gemma 2", "Granite", "Cohere", "Phi"])
@pytest.mark.parametrize("layout", ["padded", "shared_prefix"])
def test_logprob_and_entropy_in_tiles_are_the_models_own(
    name: str, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With soft cap, scale and bias."""
    monkeypatch.setattr(head, "WHOLE", 1)
    monkeypatch.setattr("extra_rl.scoring.chunked_head.TILE", {"cpu": (8, 200)})
    assert_scored(name, chosen(layout, shared(name)), 0.7)
