"""The base classes of all sections, and the validation of one section with messages that name the key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from extra_rl.errors import ConfigError


class Section(BaseModel):
    """Base of all sections: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class StageConfig(Section):
    """Base of every stage's `Config`.

    SHORTHAND: the key that plain text in the place of the section sets (`audit: string`); None: none.
    """

    SHORTHAND: ClassVar[str | None] = None


def parse_config(config_class: type[Section], section: Mapping[str, Any], name: str) -> Any:
    """Validate a section; ConfigError names the key, the given value and what is allowed. name: begins each message."""
    try:
        return config_class.model_validate(dict(section))
    except ValidationError as error:
        lines = [f"  {line}" for line in mistakes(error, config_class, name)]
        raise ConfigError("the configuration is not valid:\n" + "\n".join(lines)) from None


def mistakes(error: ValidationError, config_class: type[BaseModel], where: str) -> list[str]:
    """Return one line for every invalid key: its place below `where`, and the reason."""
    return [f"{'.'.join([where, *map(str, e['loc'])])}: {_reason(e, config_class)}" for e in error.errors()]


def _reason(error: Any, config_class: type[BaseModel]) -> str:
    if error["type"] == "extra_forbidden":
        known = ", ".join(sorted(config_class.model_fields)) if len(error["loc"]) == 1 else "see config/README.md"
        return f"unknown key (known here: {known})"
    if error["type"] == "value_error":  # raised by one of our validators
        return str(error["ctx"]["error"])
    return f"{error['msg']} (given: {error['input']!r})"
