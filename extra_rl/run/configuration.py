"""The configuration of a run, kept in its results as `configuration.yaml`: for readers, and to fork the run.

The workflow writes it with the context of the run, before the first job. It is the whole configuration as Snakemake has
merged it from its files and `--config`; a selection of arms or seeds is not part of it. It is an input of no rule.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from extra_rl.config.files import read_yaml
from extra_rl.errors import InputError
from extra_rl.tables.files import write_whole

CONFIGURATION_FILE = "configuration.yaml"
HEADER = "# The configuration of this run, merged from its files and from --config. Written by the workflow.\n"


def keep_configuration(raw: Mapping[str, Any], results: Path) -> None:
    """Write a configuration into the folder `results/<name>`, whole or not at all."""
    write_whole(results / CONFIGURATION_FILE, lambda tmp: tmp.write_text(HEADER + as_yaml(raw), encoding="utf-8"))


def keeps(raw: Mapping[str, Any], results: Path) -> bool:
    """Return whether the folder `results/<name>` keeps exactly this configuration."""
    path = results / CONFIGURATION_FILE
    return path.is_file() and path.read_text(encoding="utf-8") == HEADER + as_yaml(raw)


def kept_configuration(results: Path) -> dict[str, Any]:
    """Return the configuration of the run in `results/<name>`. InputError where none is kept."""
    path = results / CONFIGURATION_FILE
    if not path.is_file():
        raise InputError(
            f"{path}: no such file. Runs of earlier versions kept no configuration; name it with --configfile."
        )
    return read_yaml(path)


def as_yaml(raw: Mapping[str, Any]) -> str:
    """Return a configuration as YAML, in its own order. What is neither number nor list nor mapping becomes text."""
    plain = json.loads(json.dumps(raw, default=str))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120)
