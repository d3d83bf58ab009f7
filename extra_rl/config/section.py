"""The base classes of all sections, and the validation of one section with messages that name the key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from extra_rl.config.mistakes import mistakes_of
from extra_rl.errors import ConfigError


class Section(BaseModel):
    """Base of all sections: frozen; unknown keys, infinite numbers and yes/no instead of a number are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value_is_a_number(cls, given: object, info: ValidationInfo) -> object:
        """Refuse true and false where no field takes them: pydantic reads them as 1 and 0."""
        parts = _parts(cls.model_fields[str(info.field_name)].annotation)
        takes_any = any(part in (bool, Any) or _is_section(part) for part in parts)  # a nested section checks its own
        if _holds_truth_value(given) and not takes_any:
            raise ValueError(f"expected no truth value (given: {given!r}); YAML also reads yes, no, on and off as one")
        return given


def _parts(annotation: Any) -> list[Any]:
    """A type and all types within it."""
    return [annotation, *(part for inner in get_args(annotation) for part in _parts(inner))]


def _is_section(part: object) -> bool:
    return isinstance(part, type) and issubclass(part, BaseModel)


def _holds_truth_value(value: object) -> bool:
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else [value]
    return any(isinstance(member, bool) for member in members)


class StageConfig(Section):
    """Base of every stage's `Config`.

    SHORTHAND: the key that plain text instead of the section sets (`audit: string`); None: none.
    """

    SHORTHAND: ClassVar[str | None] = None


def _some_weight(weights: dict[str, float]) -> dict[str, float]:
    if weights and not sum(weights.values()):
        raise ValueError("all weights are 0: give at least one level a weight above 0")
    return weights


LevelWeights = Annotated[dict[str, Annotated[float, Field(ge=0)]], AfterValidator(_some_weight)]
"""Level -> relative frequency."""


def parse_config(config_class: type[Section], section: Mapping[str, Any], name: str) -> Any:
    """Validate a section; ConfigError names the key, the given value and what is allowed. name: begins each message."""
    try:
        return config_class.model_validate(dict(section))
    except ValidationError as error:
        lines = [f"  {line}" for line in mistakes(error, config_class, name)]
        raise ConfigError("the configuration is not valid:\n" + "\n".join(lines)) from None


def mistakes(error: ValidationError, config_class: type[BaseModel], where: str) -> list[str]:
    """Return one line for every invalid key: its place below `where`, and the reason."""
    return [f"{'.'.join([where, *found.path])}: {found.reason}" for found in mistakes_of(error, config_class)]
