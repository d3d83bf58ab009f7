"""Arms and regimes as diffs over a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from extra_rl.config import arms as config_arms
from extra_rl.config.arms import Cell, Regime
from extra_rl.config.mistakes import Mistakes
from extra_rl.errors import ConfigError


def regimes_of(raw: Mapping[str, Any]) -> dict[str, Regime]:
    """The regimes; ConfigError lists the mistakes."""
    mistakes = Mistakes()
    found = config_arms.regimes_of(raw, mistakes)
    mistakes.refuse()
    return found


def cells_of(raw: Mapping[str, Any], regimes: Mapping[str, Regime]) -> dict[str, Cell]:
    """The cells; ConfigError lists the mistakes."""
    mistakes = Mistakes()
    found = config_arms.cells_of(raw, regimes, mistakes)
    mistakes.refuse()
    return found


REGIMES = regimes_of(
    {"s50": {"value": 50, "select": {"prompts": 3}}, "s90": {"value": 90.5, "update": {"clip_low": 0.1}}}
)


def test_every_arm_in_every_regime_in_the_order_of_the_file() -> None:
    cells = cells_of({"grpo": None, "extra": {"select": {"prompts": 9}}}, REGIMES)
    assert list(cells) == ["s50-grpo", "s50-extra", "s90-grpo", "s90-extra"]
    assert cells["s50-grpo"].diff == {"select": {"prompts": 3}}
    assert cells["s50-extra"].diff == {"select": {"prompts": 9}}  # the arm's own key wins
    assert cells["s90-extra"].diff == {"update": {"clip_low": 0.1}, "select": {"prompts": 9}}
    assert (cells["s90-extra"].arm, cells["s90-extra"].regime) == ("extra", "s90")
    assert {name: regime.value for name, regime in REGIMES.items()} == {"s50": 50, "s90": 90.5}


def test_without_regimes_a_cell_is_its_arm() -> None:
    cells = cells_of({"a-b": {"update": {"clip_low": 0.3}}}, {})
    assert list(cells) == ["a-b"]
    assert cells["a-b"].regime == ""


def test_an_arm_may_list_its_regimes_and_change_keys_in_one() -> None:
    arm = {"regimes": ["s90"], "update": {"clip_low": 0.5}, "in_regime": {"s90": {"update": {"clip_high": 0.6}}}}
    cells = cells_of({"grpo": {}, "one": arm}, REGIMES)
    assert list(cells) == ["s50-grpo", "s90-grpo", "s90-one"]
    assert cells["s90-one"].diff == {"update": {"clip_low": 0.5, "clip_high": 0.6}}
    assert cells["s90-grpo"].diff == {"update": {"clip_low": 0.1}}


@pytest.mark.parametrize(
    ("arms", "said"),
    [
        ({}, "at least one arm"),
        ({"warm_start_1": {}}, "a folder's name"),
        ({"grpo": {"regimes": ["s51"]}}, "no regime 's51'; there are s50, s90"),
        ({"grpo": {"in_regime": {"x": {}}}}, "no regime 'x'"),
        ({"grpo": {"in_regime": {"s50": {"model": {}}}}}, "arms.grpo.in_regime.s50.model: all arms share"),
        ({"grpo": {"in_regime": []}}, "arms.grpo.in_regime: expected keys and values"),
        ({"grpo": {"preset": "x"}}, "unknown preset 'x'"),
    ],
)
def test_errors_in_arms_name_the_key(arms: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        cells_of(arms, REGIMES)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"s-1": {"value": 1}}, "regimes.s-1"),
        ({"s": {}}, "regimes.s.value"),
        ({"s": {"value": True}}, "not True"),
        ({"s": {"value": 1, "prepare": {}}}, "regimes.s.prepare: all arms share"),
    ],
)
def test_errors_in_regimes_name_the_key(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        regimes_of(given)


def test_an_arm_that_chooses_no_regime_is_refused_where_there_are_none() -> None:
    with pytest.raises(ConfigError, match="there are none"):
        cells_of({"grpo": {"regimes": ["s50"]}}, {})
