"""Arms and regimes: named diffs over the sections of a configuration.

Arms are compared with each other. A regime is a setting in which all arms are compared, for example a share of
unsolved training problems. With regimes each arm runs once in each, in the separate folder `<regime>-<arm>`.
"""

from __future__ import annotations

import copy
import importlib.resources
import math
import re
from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import BaseModel

from extra_rl.config.mistakes import Mistakes, nearest

PRESETS = ("paper", "published_code", "prototype", "surprisal", "regeneration", "extra")
SHARED_BY_ARMS = ("prepare", "warm_start", "compare", "model")
"""Sections that no arm may change: they configure what is made once for all arms."""
RESERVED_NAMES = ("prepare", "logs", "tracking")
"""Folders of a run's results that are not arms, in addition to those that begin with `warm_start`."""
LONGEST_NAME = 100
"""Characters of an arm's name: file systems take 255, and a folder may also carry its regime."""


class Regime(BaseModel):
    """A setting for all arms. value: its number on the report's axis. diff: its changes, under every arm's own diff."""

    value: float
    diff: dict[str, Any]


class Cell(BaseModel):
    """One arm in one regime ("" where there are none). It has one folder in the results.

    Args:
        arm, regime: the names.
        diff: the changes over the sections, merged from `layers`.
        layers: place in the configuration (`arms.extra`) -> its diff; the first takes precedence.
    """

    arm: str
    regime: str
    diff: dict[str, Any]
    layers: dict[str, dict[str, Any]]

    def place_of(self, path: tuple[str, ...]) -> str:
        """Return where in the configuration a key of this cell is set, as a path; by the longest part that is found."""
        for length in range(len(path), 0, -1):
            for place, diff in self.layers.items():
                if contains(diff, path[:length]):
                    return ".".join([place, *path])
        return ".".join([f"arms.{self.arm}", *path])


def regimes_of(raw: Mapping[str, Any], mistakes: Mistakes) -> dict[str, Regime]:
    """Regimes by name; notes an invalid name or a regime without a finite number."""
    found = {}
    for name, given in raw.items():
        where = f"regimes.{name}"
        require_text(name, where, mistakes)
        if not re.fullmatch(r"[A-Za-z0-9_]+", str(name)):
            mistakes.add(where, "the name of a regime is part of a folder's name; use letters, digits and _")
        diff = mistakes.mapping(given, where)
        value = diff.pop("value", None)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            mistakes.add(f"{where}.value", f"give the number of the regime on the report's axis, not {value!r}")
            value = 0.0
        found[str(name)] = Regime(value=value, diff=without_shared(diff, where, mistakes))
    return found


def cells_of(raw: Mapping[str, Any], regimes: Mapping[str, Regime], mistakes: Mistakes) -> dict[str, Cell]:
    """Folder -> cell, regime by regime in the order of the configuration.

    An arm may list the `regimes` that it runs in (default: all), and set additional changes `in_regime` NAME. Notes an
    invalid name, an unknown regime or preset, an arm that runs in no regime, and that there is no arm.
    """
    if not raw:
        mistakes.add("arms", "name at least one arm, for example `arms: {grpo: {}}`")
    cells = {}
    for regime in regimes or ("",):
        for name, given in raw.items():
            where = f"arms.{name}"
            require_text(name, where, mistakes)
            diff = arm_diff(str(name), given, mistakes)
            chosen = chosen_regimes(diff.pop("regimes", None), regimes, where, mistakes)
            extra = mistakes.mapping(diff.pop("in_regime", None), f"{where}.in_regime")
            for unknown in sorted(set(map(str, extra)) - set(regimes)):
                mistakes.add(f"{where}.in_regime", no_regime(unknown, regimes))
            if regime and regime not in chosen:
                continue
            place = f"{where}.in_regime.{regime}"
            own = without_shared(mistakes.mapping(extra.get(regime), place), place, mistakes)
            below = regimes[regime].diff if regime else {}
            cells[f"{regime}-{name}" if regime else str(name)] = Cell(
                arm=str(name),
                regime=regime,
                diff=merge(merge(below, diff), own),
                layers={place: own, where: diff, f"regimes.{regime}": below},
            )
    return cells


def require_text(name: object, where: str, mistakes: Mistakes) -> None:
    """Note a name that YAML has read as another value: `on` and `yes` are true, `null` is none, 2024-01-01 a date."""
    if isinstance(name, bool) or not isinstance(name, int | str):
        mistakes.add(where, f"YAML reads this name as {name!r}: write it in quotes")


def chosen_regimes(given: Any, regimes: Mapping[str, Regime], where: str, mistakes: Mistakes) -> list[str]:
    """The regimes that an arm runs in: all unless it lists some. Notes unknown ones and a list that names none."""
    if given is None:
        return list(regimes)
    if not isinstance(given, list) or not given:
        mistakes.add(f"{where}.regimes", f"list at least one regime, for example [s50], not {given!r}")
        return []
    for unknown in sorted(set(map(str, given)) - set(regimes)):
        mistakes.add(f"{where}.regimes", no_regime(unknown, regimes))
    return [str(name) for name in given]


def no_regime(name: str, regimes: Mapping[str, Regime]) -> str:
    return f"there is no regime {name!r}; there are {', '.join(regimes) or 'none'}{nearest(name, regimes)}"


def arm_diff(name: str, given: Any, mistakes: Mistakes) -> dict[str, Any]:
    """An arm's diff, over its preset if it names one."""
    where = f"arms.{name}"
    if (
        len(name) > LONGEST_NAME
        or not re.fullmatch(r"[A-Za-z0-9_-]+", name)
        or name in RESERVED_NAMES
        or name.startswith("warm_start")
    ):
        mistakes.add(
            where,
            "an arm's name is a folder's name; use letters, digits, - and _, and none of "
            f"{', '.join(RESERVED_NAMES)}, warm_start",
        )
    diff = mistakes.mapping(given, where)
    preset = diff.pop("preset", None)
    diff = without_shared(diff, where, mistakes)
    if preset is None:
        return diff
    if preset not in PRESETS:
        reason = f"unknown preset {preset!r}; there are {', '.join(PRESETS)}{nearest(preset, PRESETS)}"
        mistakes.add(f"{where}.preset", reason)
        return diff
    return merge(read_preset(preset), diff)


def without_shared(diff: Mapping[str, Any], where: str, mistakes: Mistakes) -> dict[str, Any]:
    """Return a diff without the sections that all arms share; notes those that it changes."""
    for key in diff:
        if key in SHARED_BY_ARMS:
            mistakes.add(f"{where}.{key}", f"all arms share `{key}`; set it at the top")
    return {key: value for key, value in diff.items() if key not in SHARED_BY_ARMS}


def read_preset(name: str) -> dict[str, Any]:
    """Return a combination of method options out of PRESETS (docs/method.md 3) as a diff over the sections."""
    text = importlib.resources.files("extra_rl.config").joinpath(f"presets/{name}.yaml").read_text()
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def contains(diff: Any, path: tuple[str, ...]) -> bool:
    """Whether a diff sets the key at this path."""
    for key in path:
        if not isinstance(diff, Mapping) or key not in diff:
            return False
        diff = diff[key]
    return True


def merge(base: Mapping[str, Any], diff: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `diff` merged over it recursively; lists and scalars replace."""
    result = copy.deepcopy(dict(base))
    for key, value in diff.items():
        if isinstance(value, Mapping) and isinstance(result.get(key), dict):
            result[key] = merge(result[key], value)
        else:
            result[key] = copy.deepcopy(value)
    return result
