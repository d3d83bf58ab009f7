"""Resolution of a configuration: from YAML and the diffs of an arm to the validated section of every stage.

A configuration is one file: shared sections, one section per stage, and `arms`, each a diff over the rest that may
start from a preset. Unknown keys are refused at every level, and the message lists the known ones.
`extra_rl.config.arms` reads the arms, and the regimes in which they may be repeated.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from extra_rl.config.arms import Cell, cells_of, mapping, merge, regimes_of
from extra_rl.config.comparisons import refuse_unknown
from extra_rl.config.run import RunConfig, run_config
from extra_rl.config.section import StageConfig, parse_config
from extra_rl.config.sections import SHARED
from extra_rl.errors import ConfigError


class Experiment(BaseModel):
    """A whole configuration, validated: the keys of the run, and the section of every stage for every arm.

    Args:
        run: the top-level keys.
        arms: folder of an arm -> stage -> section; with regimes an arm has one folder for each.
        common: stage -> section, for what all arms share.
        cells: folder of an arm -> its arm, regime and diff.
        regimes: name -> value; empty: none.
    """

    run: RunConfig
    arms: dict[str, dict[str, dict[str, Any]]]
    common: dict[str, dict[str, Any]]
    cells: dict[str, Cell]
    regimes: dict[str, float]


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a configuration file as a mapping; ConfigError names the file."""
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
    """Validate a raw configuration for the given stages (name -> Config class).

    Raises ConfigError, which names every unknown key and invalid value.
    """
    known = {*RunConfig.model_fields, *SHARED, *stages, "arms", "regimes"}
    unknown = sorted(set(raw) - known)
    if unknown:
        raise ConfigError(f"unknown key(s) {', '.join(unknown)}; known: {', '.join(sorted(known))}.")
    run = run_config({key: raw[key] for key in RunConfig.model_fields if key in raw})
    base = {key: value for key, value in raw.items() if key in SHARED or key in stages}
    regimes = regimes_of(mapping(raw.get("regimes"), "regimes"))
    cells = cells_of(mapping(raw.get("arms"), "arms"), regimes)
    experiment = Experiment(
        run=run,
        common=sections(base, stages),
        arms={name: sections(merge(base, cell.diff), stages, name) for name, cell in cells.items()},
        cells=cells,
        regimes={name: regime.value for name, regime in regimes.items()},
    )
    refuse_sharded_rounds(experiment)
    for name, arm in experiment.arms.items():
        refuse_unscored(arm, f"arms.{name}")
    if "compare" in stages:
        refuse_unknown(experiment.common["compare"]["comparisons"], [cell.arm for cell in cells.values()])
    return experiment


def refuse_sharded_rounds(experiment: Experiment) -> None:
    """Raise ConfigError for rounds with shards: no shard knows how many groups are missing overall."""
    for name, arm in experiment.arms.items():
        if experiment.run.generation.shards > 1 and arm.get("generate", {}).get("rounds", 1) > 1:
            raise ConfigError(f"arms.{name}: generate.rounds above 1 needs generation.shards: 1 (docs/sampling.md).")


def refuse_unscored(arm: Mapping[str, Mapping[str, Any]], where: str) -> None:
    """Raise ConfigError where an arm scores only some rollouts and one of its sections needs the scores of all."""
    if arm.get("score_entropy", {}).get("rows", "all") == "all":
        return
    prefixes, update = arm["choose_prefixes"], arm["update"]
    needed = {
        "choose_prefixes.scores_from: sampler (prefixes are chosen by the scores of all failed rollouts otherwise)": (
            prefixes["groups"] != 0 and prefixes["scores_from"] == "policy"
        ),
        "update.kl_weight: 0 (every row has a gradient otherwise)": update["kl_weight"] > 0,
        "update.entropy_weight: 0 (every row has a gradient otherwise)": update["entropy_weight"] > 0,
        "another novelty.measure than surprise, which compares the logprobs of all rollouts": (
            arm["novelty"]["measure"] == "surprise"
        ),
    }
    missing = [requirement for requirement, is_missing in needed.items() if is_missing]
    if missing:
        raise ConfigError(f"{where}: score_entropy.rows: signal needs {'; '.join(missing)}. Or set rows: all.")


def sections(
    raw: Mapping[str, Any], stages: Mapping[str, type[StageConfig]], arm: str = ""
) -> dict[str, dict[str, Any]]:
    """Stage -> its complete section as plain JSON values, with defaults and shared sections. arm: for messages."""
    unknown = sorted(set(raw) - set(SHARED) - set(stages))
    where = f"arms.{arm}: " if arm else ""
    if unknown:
        raise ConfigError(f"{where}unknown section(s) {', '.join(unknown)}; known: {', '.join([*SHARED, *stages])}.")
    result = {}
    for name, config_class in stages.items():
        given = raw.get(name)
        if isinstance(given, str) and config_class.SHORTHAND:
            given = {config_class.SHORTHAND: given}
        section = mapping(given, f"{where}{name}")
        fields = config_class.model_fields
        misplaced = sorted(set(section) & set(SHARED))
        if misplaced:
            raise ConfigError(f"{where}{name}.{misplaced[0]}: `{misplaced[0]}` is a shared section; set it at the top.")
        section |= {key: raw.get(key) or {} for key in SHARED if key in fields}
        result[name] = parse_config(config_class, section, f"{where}{name}").model_dump(mode="json")
    return result
