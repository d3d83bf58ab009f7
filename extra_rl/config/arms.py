"""Arms and regimes: named diffs over the sections of a configuration.

Arms are compared with each other. A regime is a setting in which all arms are compared, for example a share of
unsolved training problems. With regimes each arm runs once in each, in the separate folder `<regime>-<arm>`.
"""

from __future__ import annotations

import copy
import importlib.resources
import re
from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import BaseModel

from extra_rl.errors import ConfigError

PRESETS = ("paper", "published_code", "prototype", "surprisal", "regeneration")
SHARED_BY_ARMS = ("prepare", "warm_start", "compare", "model")
"""Sections that no arm may change: they configure what is made once for all arms."""
RESERVED_NAMES = ("prepare", "logs")
"""Folders of a run's results that are not arms, in addition to those that begin with `warm_start`."""


class Regime(BaseModel):
    """A setting for all arms. value: its number on the report's axis. diff: its changes, under every arm's own diff."""

    value: float
    diff: dict[str, Any]


class Cell(BaseModel):
    """One arm in one regime ("" where there are none), with its merged diff. It has one folder in the results."""

    arm: str
    regime: str
    diff: dict[str, Any]


def regimes_of(raw: Mapping[str, Any]) -> dict[str, Regime]:
    """Regimes by name; ConfigError for an invalid name or a regime without a number."""
    found = {}
    for name, given in raw.items():
        where = f"regimes.{name}"
        if not re.fullmatch(r"[A-Za-z0-9_]+", str(name)):
            raise ConfigError(f"{where}: the name of a regime is part of a folder's name; use letters, digits and _.")
        diff = mapping(given, where)
        value = diff.pop("value", None)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"{where}.value: give the number of the regime on the report's axis, not {value!r}.")
        refuse_shared(diff, where)
        found[str(name)] = Regime(value=value, diff=diff)
    return found


def cells_of(raw: Mapping[str, Any], regimes: Mapping[str, Regime]) -> dict[str, Cell]:
    """Folder -> cell, regime by regime in the order of the configuration.

    An arm may list the `regimes` that it runs in (default: all), and set additional changes `in_regime` NAME. Raises
    ConfigError for an invalid name, an unknown regime or preset, and where there is no arm.
    """
    if not raw:
        raise ConfigError("arms: name at least one arm, for example `arms: {grpo: {}}`.")
    cells = {}
    for regime in regimes or ("",):
        for name, given in raw.items():
            diff = arm_diff(str(name), given)
            chosen, extra = diff.pop("regimes", list(regimes)), mapping(diff.pop("in_regime", None), f"arms.{name}")
            for unknown in sorted({*map(str, chosen), *extra} - set(regimes)):
                raise ConfigError(
                    f"arms.{name}: there is no regime {unknown!r}; there are {', '.join(regimes) or 'none'}."
                )
            if regime and regime not in chosen:
                continue
            own = mapping(extra.get(regime), f"arms.{name}.in_regime.{regime}")
            refuse_shared(own, f"arms.{name}.in_regime.{regime}")
            below = regimes[regime].diff if regime else {}
            folder = f"{regime}-{name}" if regime else str(name)
            cells[folder] = Cell(arm=str(name), regime=regime, diff=merge(merge(below, diff), own))
    return cells


def arm_diff(name: str, diff: Mapping[str, Any] | None) -> dict[str, Any]:
    """An arm's diff, over its preset if it names one."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name) or name in RESERVED_NAMES or name.startswith("warm_start"):
        raise ConfigError(
            f"arms.{name}: an arm's name is a folder's name; use letters, digits, - and _, and none of "
            f"{', '.join(RESERVED_NAMES)}, warm_start."
        )
    diff = mapping(diff, f"arms.{name}")
    preset = diff.pop("preset", None)
    refuse_shared(diff, f"arms.{name}")
    return merge(read_preset(preset), diff) if preset else diff


def refuse_shared(diff: Mapping[str, Any], where: str) -> None:
    """Raise ConfigError where a diff changes a section that all arms share."""
    for key in diff:
        if key in SHARED_BY_ARMS:
            raise ConfigError(f"{where}.{key}: all arms share `{key}`; set it at the top.")


def read_preset(name: str) -> dict[str, Any]:
    """Return a named combination of method options (docs/method.md 3) as a diff over the sections."""
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}; there are {', '.join(PRESETS)}.")
    text = importlib.resources.files("extra_rl.config").joinpath(f"presets/{name}.yaml").read_text()
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def mapping(value: Any, where: str) -> dict[str, Any]:
    """Return the keys of a section, none for null; ConfigError for a list or a scalar."""
    if not isinstance(value, Mapping | None):
        raise ConfigError(f"{where}: expected keys and values, not {value!r}.")
    return dict(value or {})


def merge(base: Mapping[str, Any], diff: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `diff` merged over it recursively; lists and scalars replace."""
    result = copy.deepcopy(dict(base))
    for key, value in diff.items():
        if isinstance(value, Mapping) and isinstance(result.get(key), dict):
            result[key] = merge(result[key], value)
        else:
            result[key] = copy.deepcopy(value)
    return result
