"""Which settings are tried: the run's own first, each other once, and a bonus where the run had none."""

from __future__ import annotations

from typing import Any

from extra_research.variants import Variant, combinations_of, variants_of, without_repetition
from stages.advantage import Config

GRPO: dict[str, Any] = Config().model_dump(mode="json")
ZERO: dict[str, Any] = {"measure": "zero", "params": {}}
POLICY: dict[str, Any] = {"measure": "policy", "params": {"aggregate": "nearest", "pool": "all"}}
EXTRA = {**GRPO, "weight": 0.1, "scale": "batch_std"}


def names(found: list[Variant]) -> list[str]:
    assert len({variant.name for variant in found}) == len(found)
    return [variant.name for variant in found]


def test_the_runs_own_settings_come_first_and_once() -> None:
    found = names(variants_of(POLICY, EXTRA, "policy"))
    assert found[0] == "as_it_was"
    assert found[1:5] == ["weight=0.0", "weight=0.05", "weight=0.2", "weight=0.5"]
    assert "weight=0.1" not in found
    assert "measure=policy pool=all aggregate=nearest" not in found
    assert "scale=batch_std" not in found


def test_everything_is_tried_once() -> None:
    found = names(variants_of(POLICY, EXTRA, "policy"))
    for name in (
        *("measure=zero", "measure=lexical", "measure=ngram_count", "measure=surprise"),
        *("measure=policy pool=correct aggregate=mean", "measure=random aggregate=nearest pool=all reference=policy"),
        *("centring=among_correct", "scale=none", "scale=group_max", "placement=before_normalisation"),
        *("group=joined", "keep_unrescued=false", "guided_advantage=positive_only"),
    ):
        assert name in found


def test_without_stored_embeddings_no_measure_that_needs_them() -> None:
    found = names(variants_of({"measure": "lexical", "params": {}}, EXTRA, ""))
    assert not [name for name in found if "policy" in name or "random" in name]
    assert "measure=lexical" not in found


def test_an_elliptical_bonus_has_no_random_control_of_its_magnitude() -> None:
    elliptical = {"measure": "elliptical", "params": {"ridge": 0.1}}
    found = names(variants_of(elliptical, EXTRA, "policy"))
    assert not [name for name in found if "random" in name]
    assert "measure=policy pool=all aggregate=nearest" in found
    assert "measure=elliptical reference=policy" in found  # at the default ridge
    assert "measure=elliptical reference=policy" in names(variants_of(POLICY, EXTRA, "policy"))


def test_a_run_without_novelty_is_asked_with_a_bonus() -> None:
    found = names(variants_of(ZERO, GRPO, ""))
    assert found[0] == "as_it_was"
    assert "measure=lexical weight=0.2" in found
    assert "measure=ngram_count weight=0.1" in found
    assert "measure=lexical weight=0.1 placement=before_normalisation" in found
    assert "group=joined" in found


def test_every_combination() -> None:
    """9 measures with 4 weights, 2 centrings, 3 scales, 2 placements and 2 groups; weight 0 with 2 groups. The run's
    own is one of them."""
    found = combinations_of(POLICY, EXTRA, "policy")
    assert len(names(found)) == 9 * 4 * 2 * 3 * 2 * 2 + 2


def test_defaults_that_are_written_out_are_the_same_settings() -> None:
    written_out = Variant({"measure": "policy", "params": {}}, {"weight": 0.1})
    assert without_repetition([Variant(), written_out], POLICY, EXTRA) == [Variant()]
