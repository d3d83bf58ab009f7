"""Mistakes of a configuration: the place of each, the reason, and the nearest valid key; all are listed in one message.

Places are paths as a user writes them: `update.learning_rate`, `arms.extra.novelty.measure`, `regimes.s50.value`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, NamedTuple, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from extra_rl.errors import ConfigError

SHOWN = 120
"""Longest given value in a message, in characters."""

Path = tuple[str, ...]
Model = TypeVar("Model", bound=BaseModel)


class Mistake(NamedTuple):
    """A wrong key or value of a section. unknown: the section has no such key, so that it can be left out."""

    path: Path
    reason: str
    unknown: bool = False


class Mistakes:
    """Mistakes in the order in which they are found, each once."""

    def __init__(self) -> None:
        self.lines: dict[str, None] = {}

    def add(self, place: str, reason: str) -> None:
        """Note a mistake. place: path of the key; empty for a rule between several keys, which the reason names."""
        self.lines[f"{place}: {reason}" if place else reason] = None

    def mapping(self, value: Any, place: str) -> dict[str, Any]:
        """Return the keys of a section, none for null; note a list or a scalar, and return none."""
        if not isinstance(value, Mapping | None):
            self.add(place, f"expected keys and values, not {value!r}")
            return {}
        return dict(value or {})

    def refuse(self) -> None:
        """Raise ConfigError that lists the mistakes, unless there are none."""
        if self.lines:
            raise ConfigError("the configuration is not valid:\n" + "\n".join(f"  {line}" for line in self.lines))


def nearest(given: object, known: Iterable[str]) -> str:
    """Return `; did you mean ...?` for the known word that resembles the given one most, "" where none does.

    A word resembles another by its letters, as its beginning (`temp`), or by its initials (`lr` for `learning_rate`).
    """
    word, names = str(given), list(known)
    found = difflib.get_close_matches(word, names, n=1, cutoff=0.7)
    found += [name for name in names if len(word) > 2 and name.startswith(word)]
    found += [name for name in names if len(word) > 1 and word == "".join(part[:1] for part in name.split("_"))]
    return f"; did you mean `{found[0]}`?" if found else ""


def unknown_key(key: str, known: Iterable[str], elsewhere: Mapping[str, Iterable[str]] | None = None) -> str:
    """Return the reason for an unknown key: the nearest known one, the section that has it, or all known ones.

    elsewhere: section -> its keys; "" stands for the top level.
    """
    names = sorted(known)
    if near := nearest(key, names):
        return f"unknown key{near}"
    places = [f"{section}.{key}" if section else key for section, keys in (elsewhere or {}).items() if key in keys]
    if places:
        return f"unknown key here; did you mean {' or '.join(f'`{place}`' for place in places)}?"
    return f"unknown key (known here: {', '.join(names) or 'none'})"


def validated(
    config_class: type[Model], given: Mapping[str, Any], hidden: Collection[str] = ()
) -> tuple[Model | None, list[Mistake]]:
    """Validate a section; return it and its mistakes. hidden: fields that are no keys of the section.

    A key with a mistake gets its default in the section that is returned, so that the rules between the other keys are
    checked too. None where a required key is missing or wrong, or a rule between keys is broken.
    """
    values, found, wrong = dict(given), list[Mistake](), set[str]()
    while True:
        try:
            return config_class.model_validate(values), found
        except ValidationError as error:
            new = mistakes_of(error, config_class, hidden)
            found += [mistake for mistake in new if not _follows_from(mistake, wrong)]
            wrong |= {mistake.path[0] for mistake in new if mistake.path and not mistake.unknown}
            left_out = {mistake.path[0] for mistake in new if mistake.path} & set(values)
            if not left_out:
                return None, found
            values = {key: value for key, value in values.items() if key not in left_out}


def _follows_from(mistake: Mistake, wrong: set[str]) -> bool:
    """Whether a mistake may be due to the default instead of a wrong value: it names that key."""
    return any(key in mistake.path[:1] or re.search(rf"\b{key}\b", mistake.reason) for key in wrong)


def mistakes_of(error: ValidationError, config_class: type[BaseModel], hidden: Collection[str] = ()) -> list[Mistake]:
    """Return the mistakes that pydantic has found, one a path."""
    found: dict[Path, Mistake] = {}
    for detail in error.errors():
        path, model = _located(config_class, detail["loc"])
        mistake = Mistake(
            path,
            _reason(detail, path, set(model.model_fields if model else ()) - set(hidden)),
            detail["type"] == "extra_forbidden",
        )
        before = found.get(path)
        found[path] = mistake if before is None else before._replace(reason=f"{before.reason}, or: {mistake.reason}")
    return list(found.values())


def _reason(detail: Any, path: Path, known: Collection[str]) -> str:
    if detail["type"] == "extra_forbidden":
        return unknown_key(path[-1], known)
    if detail["type"] == "missing":
        return "this key is required"
    if detail["type"] == "value_error":  # raised by one of our validators
        return str(detail["ctx"]["error"])
    given = repr(detail["input"])
    text = f"{detail['msg']} (given: {given if len(given) <= SHOWN else given[:SHOWN] + ' ...'})"
    if detail["type"] == "literal_error":
        text += nearest(detail["input"], re.findall(r"'([^']*)'", detail["ctx"]["expected"]))
    return text


def _located(config_class: type[BaseModel], location: Iterable[int | str]) -> tuple[Path, type[BaseModel] | None]:
    """Return the path of an error without pydantic's tags of union members, and the model that holds its last key."""
    annotation: Any = config_class
    path: list[str] = []
    holder: type[BaseModel] | None = None
    for step in map(str, location):
        members = list(_members(annotation))
        model = next((member for member in members if _is_model(member)), None)
        container = next((member for member in members if get_origin(member) in (dict, list, tuple)), None)
        if model is not None and len(members) == 1:
            holder = model
            field = model.model_fields.get(step)
            annotation = field.annotation if field else Any
        elif len(members) > 1 and not step.isdigit():
            annotation = container or Any
            continue  # the name of a member of the union
        elif container is not None:
            annotation = next((part for part in reversed(get_args(container)) if part is not ...), Any)
            holder = None
        else:
            holder = None
        path.append(step)
    return tuple(path), holder


def _members(annotation: Any) -> Iterator[Any]:
    """The members of a union without None, or the type itself; what Annotated adds is left out."""
    if get_origin(annotation) is Annotated:
        yield from _members(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for member in get_args(annotation):
            yield from _members(member)
    elif annotation is not NoneType:
        yield annotation


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
