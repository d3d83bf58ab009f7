"""Presets: the options that each stands for, under an arm's own changes."""

from __future__ import annotations

from typing import Any

import pytest

from extra_rl.config.arms import PRESETS, read_preset
from tests.config.test_config import resolved


def test_an_arm_overrides_its_preset_and_the_preset_the_base() -> None:
    sections = resolved(
        "extra",
        advantage={"weight": 0.5, "eps": 1e-5},
        choose_prefixes={"min_tokens": 3},
        arms={"extra": {"preset": "prototype", "choose_prefixes": {"prefixes_per_problem": 1}}},
    )
    prototype = read_preset("prototype")
    assert sections["advantage"]["weight"] == prototype["advantage"]["weight"] == 0.1
    assert sections["advantage"]["eps"] == 1e-5
    assert sections["choose_prefixes"]["prefixes_per_problem"] == 1
    assert prototype["choose_prefixes"]["prefixes_per_problem"] == 4
    assert sections["choose_prefixes"]["min_tokens"] == 3


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        (
            "prototype",
            {
                "choose_prefixes": {"cut": "before_peak_entropy", "when": "next_iteration", "groups": "all_hard"},
                "advantage": {"group": "joined", "prefix_loss": "trained", "keep_unrescued": False},
                "verify": {"gold": "own"},
            },
        ),
        (
            "paper",
            {
                "choose_prefixes": {"cut": "every_boundary", "when": "same_iteration", "groups": 16},
                "advantage": {"group": "own", "prefix_loss": "masked", "keep_unrescued": True, "weight": 0.1},
                "novelty": {"measure": "sentence", "remember": 6},
                "verify": {"gold": "own"},
            },
        ),
        (
            "published_code",
            {
                "choose_prefixes": {"when": "next_iteration", "max_pass_rate": 0.167},
                "advantage": {"placement": "before_normalisation"},
                "verify": {"gold": "displaced"},
            },
        ),
        (
            "surprisal",
            {
                "choose_prefixes": {"cut": "every_boundary", "rank": "low_mean_surprisal", "groups": "all_hard"},
                "advantage": {"group": "joined", "prefix_loss": "trained", "guided_advantage": "positive_only"},
                "verify": {"gold": "own"},
            },
        ),
        (
            "extra",
            {
                "generate": {"half_groups": True},
                "choose_prefixes": {
                    "groups": "all_hard",
                    "rank": "calibrated",
                    "action": "cheapest",
                    "scores_from": "sampler",
                    "prefixes_per_problem": 2,
                    "continuations_per_prefix": 4,
                },
                "advantage": {"group": "joined", "weight": 0.0, "normalise": "mean"},
                "update": {"minibatches": 4},
            },
        ),
    ],
)
def test_presets_have_the_options_of_the_method(preset: str, expected: dict[str, dict[str, Any]]) -> None:
    sections = resolved("extra", arms={"extra": {"preset": preset}})
    for name, values in expected.items():
        assert {key: sections[name][key] for key in values} == values
    assert preset in PRESETS


def test_the_preset_extra_replays_once_eight_trajectories_are_stored() -> None:
    replay = resolved("extra", arms={"extra": {"preset": "extra"}})["choose_prefixes"]["replay"]
    expected = {"rows": 24, "order": "per_group", "move": "half", "failures_from": 0.75, "min_stored": 8}
    assert {key: replay[key] for key in expected} == expected


def test_every_preset_resolves_and_changes_something() -> None:
    for preset in PRESETS:
        assert resolved("extra", arms={"extra": {"preset": preset}}) != resolved()
