"""Import of a stage's module by its name, only when it is needed."""

from __future__ import annotations

import importlib
from types import ModuleType

from extra_rl.errors import ConfigError
from stages import STAGES


def load(name: str) -> ModuleType:
    """Import the module of a stage; ConfigError for an unknown name."""
    if name not in STAGES:
        raise ConfigError(f"there is no stage {name!r}; the stages are {', '.join(STAGES)}.")
    return importlib.import_module(f"stages.{name}")
