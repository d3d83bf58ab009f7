"""From YAML and an arm's overrides to the validated section of every stage.

A configuration is one file: shared sections, one section per stage, and `arms`, each a diff over the rest that may
start from a preset. Unknown keys are refused at every level, with the known ones named.
"""

from __future__ import annotations

import copy
import importlib.resources
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, Field, ValidationError

from extra_rl.errors import ConfigError
from extra_rl.retention import RetentionConfig
from extra_rl.sections import SHARED, Section
from extra_rl.stage import StageConfig, parse_config

PRESETS = ("paper", "published_code", "prototype")
SHARED_BY_ARMS = ("prepare", "warm_start", "compare", "model")
"""Sections that no arm may change: what they configure is made once for all arms."""
RESERVED_NAMES = ("prepare", "warm_start", "logs")
"""Folders of a run's results that are not arms."""


class GenerationConfig(Section):
    """How `generate` and `regenerate` are spread over devices. Read by the workflow, no part of any stage's section."""

    shards: int = Field(
        1,
        ge=1,
        le=1000,
        description="jobs that share the rollouts of a call, a device each (docs/decisions/0009-shards.md); another "
        "number samples the iterations of the window again",
    )


class RunConfig(Section):
    """Top-level keys beside the sections and arms."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="results are written to results/<name>")
    seeds: list[int] = Field([0], min_length=1, description="experiment seeds; every arm runs with each")
    iterations: int = Field(ge=1, le=10_000, description="iterations of every arm and seed")
    first_iteration: int = Field(
        0, ge=0, description="iterations before it are finished and never looked at again (the window)"
    )
    evaluate_every: int = Field(0, ge=0, description="evaluate every k-th iteration too; 0: the final policy only")
    retention: RetentionConfig = Field(
        default_factory=RetentionConfig, description="what stays on disk of the policies; changing it re-runs nothing"
    )
    generation: GenerationConfig = Field(
        default_factory=GenerationConfig, description="how sampling is spread over devices"
    )


class Experiment(BaseModel):
    """A whole configuration, validated: run keys, and the section of every stage for every arm."""

    run: RunConfig
    arms: dict[str, dict[str, dict[str, Any]]]
    common: dict[str, dict[str, Any]]


def read_yaml(path: Path) -> dict[str, Any]:
    """A configuration file as a mapping; ConfigError names the file."""
    try:
        raw = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration file.") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: a configuration is a mapping of sections.")
    return raw


def resolve(raw: Mapping[str, Any], stages: Mapping[str, type[StageConfig]]) -> Experiment:
    """Validates a raw configuration for the given stages (name -> Config class).

    Raises ConfigError naming every unknown key or bad value.
    """
    known = {*RunConfig.model_fields, *SHARED, *stages, "arms"}
    unknown = sorted(set(raw) - known)
    if unknown:
        raise ConfigError(f"unknown key(s) {', '.join(unknown)}; known: {', '.join(sorted(known))}.")
    run = _run_config({key: raw[key] for key in RunConfig.model_fields if key in raw})
    base = {key: value for key, value in raw.items() if key in SHARED or key in stages}
    arms = {str(name): diff for name, diff in _mapping(raw.get("arms"), "arms").items()}
    if not arms:
        raise ConfigError("arms: name at least one arm, for example `arms: {grpo: {}}`.")
    return Experiment(
        run=run,
        common=sections(base, stages),
        arms={name: sections(merge(base, arm_diff(name, diff)), stages, name) for name, diff in arms.items()},
    )


def _run_config(values: Mapping[str, Any]) -> RunConfig:
    try:
        config = RunConfig.model_validate(values)
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc']))}: {e['msg']} (given: {e['input']!r})" for e in error.errors()]
        raise ConfigError("the configuration is not valid:\n" + "\n".join(lines)) from None
    if config.first_iteration >= config.iterations:
        raise ConfigError("first_iteration must be below iterations: nothing would be left to run.")
    return config


def arm_diff(name: str, diff: Mapping[str, Any] | None) -> dict[str, Any]:
    """An arm's diff with its preset, if it names one, underneath."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name) or name in RESERVED_NAMES:
        raise ConfigError(
            f"arms.{name}: an arm's name is a folder's name; use letters, digits, - and _, and none of "
            f"{', '.join(RESERVED_NAMES)}."
        )
    diff = _mapping(diff, f"arms.{name}")
    preset = diff.pop("preset", None)
    common = [key for key in diff if key in SHARED_BY_ARMS]
    if common:
        raise ConfigError(f"arms.{name}.{common[0]}: all arms share `{common[0]}`; set it at the top.")
    return merge(read_preset(preset), diff) if preset else diff


def _mapping(value: Any, where: str) -> dict[str, Any]:
    """A section's keys, none for null; ConfigError for a list or a plain value."""
    if not isinstance(value, Mapping | None):
        raise ConfigError(f"{where}: expected keys and values, not {value!r}.")
    return dict(value or {})


def read_preset(name: str) -> dict[str, Any]:
    """A named combination of method options (docs/method.md 3), as a diff over the sections."""
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}; there are {', '.join(PRESETS)}.")
    text = importlib.resources.files("extra_rl").joinpath(f"presets/{name}.yaml").read_text()
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def merge(base: Mapping[str, Any], diff: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `diff` over it, recursively; lists and scalars replace."""
    result = copy.deepcopy(dict(base))
    for key, value in diff.items():
        if isinstance(value, Mapping) and isinstance(result.get(key), dict):
            result[key] = merge(result[key], value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def sections(
    raw: Mapping[str, Any], stages: Mapping[str, type[StageConfig]], arm: str = ""
) -> dict[str, dict[str, Any]]:
    """stage -> its whole section as plain JSON values: defaults filled in, shared sections in their places."""
    unknown = sorted(set(raw) - set(SHARED) - set(stages))
    where = f"arms.{arm}: " if arm else ""
    if unknown:
        raise ConfigError(f"{where}unknown section(s) {', '.join(unknown)}; known: {', '.join([*SHARED, *stages])}.")
    token_budget = _mapping(raw.get("select"), f"{where}select").get("token_budget")
    result = {}
    for name, config_class in stages.items():
        given = raw.get(name)
        if isinstance(given, str) and config_class.SHORTHAND:
            given = {config_class.SHORTHAND: given}
        section = _mapping(given, f"{where}{name}")
        fields = config_class.model_fields
        misplaced = sorted(set(section) & set(SHARED))
        if misplaced:
            raise ConfigError(f"{where}{name}.{misplaced[0]}: `{misplaced[0]}` is a shared section; set it at the top.")
        section |= {key: raw.get(key) or {} for key in SHARED if key in fields}
        if name == "compare":  # an arm that ran out of iterations before its budget cannot be compared
            section["token_budget"] = token_budget
        result[name] = parse_config(config_class, section, f"{where}{name}").model_dump(mode="json")
    return result
