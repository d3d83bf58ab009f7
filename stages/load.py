"""The module of a stage by its name, imported only when it is needed."""

from __future__ import annotations

import importlib
from types import ModuleType

from extra_rl.errors import ConfigError
from stages import STAGES


def load(name: str) -> ModuleType:
    """The module of a stage, by its name."""
    if name not in STAGES:
        raise ConfigError(f"there is no stage {name!r}; the stages are {', '.join(STAGES)}.")
    return importlib.import_module(f"stages.{name}")
