"""Reading of configuration files. What YAML's readers change in silence is refused: a key that is given twice, of which
they keep the last one, and numbers that they read in another base (`010` is 8, `1:30` is 90).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from extra_rl.errors import ConfigError

MERGE_KEY = "<<"
"""Key that includes the keys of an anchor; a mapping may have several."""

NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
OTHER_BASE = re.compile(r"[-+]?(0[0-7_]+|.*:.*)")
"""Octal and sexagesimal numbers of YAML 1.1; hexadecimal ones are meant as such."""


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a configuration file as a mapping; ConfigError names the file, and the line of what is ambiguous."""
    text = _text(path)
    _refuse_ambiguous(path, text)
    try:
        raw = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise _not_yaml(path, error) from error
    if raw is None:
        raise ConfigError(f"{path}: the file is empty. A configuration has at least name, iterations and arms.")
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: a configuration is a mapping of sections.")
    return raw


def refuse_ambiguous(paths: Iterable[Path]) -> None:
    """Raise ConfigError where one of the files gives a key twice, or writes a number that is read as another one.

    For files that another program has read already.
    """
    for path in paths:
        _refuse_ambiguous(path, _text(path))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as text ({error}).") from error


def _refuse_ambiguous(path: Path, text: str) -> None:
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        found = list(repeated_keys(node))
        misread = dict.fromkeys(misread_numbers(node))
    except yaml.YAMLError as error:
        raise _not_yaml(path, error) from error
    except RecursionError as error:
        raise ConfigError(f"{path}: an anchor contains itself, or values are nested too deeply.") from error
    if found:
        lines = [f"  line {line}: {key} is given on line {first} already" for key, line, first in found]
        raise ConfigError(f"{path}: keys are given twice; keep one of each:\n" + "\n".join(lines))
    if misread:
        lines = [f"  line {line}: {key}: YAML reads {text} as {value}" for key, line, text, value in misread]
        raise ConfigError(f"{path}: write these numbers out, or in quotes if they are text:\n" + "\n".join(lines))


def _not_yaml(path: Path, error: Exception) -> ConfigError:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return ConfigError(f"{path}: not valid YAML: {error}")
    problem, spaces = str(getattr(error, "problem", error)), ""
    if "'\\t'" in problem:
        spaces = "; indent with spaces instead of tabs"
    return ConfigError(f"{path}: not valid YAML: line {mark.line + 1}, column {mark.column + 1}: {problem}{spaces}")


def repeated_keys(node: yaml.Node | None, above: str = "") -> Iterator[tuple[str, int, int]]:
    """Path of each key that its mapping has already, with its line and the line of the first one, counted from 1."""
    if isinstance(node, yaml.SequenceNode):
        for member in node.value:
            yield from repeated_keys(member, above)
    if not isinstance(node, yaml.MappingNode):
        return
    first: dict[str, int] = {}
    for key, value in node.value:
        name = str(key.value)
        place = f"{above}.{name}" if above else name
        line = key.start_mark.line + 1
        if name in first and name != MERGE_KEY:
            yield place, line, first[name]
        first.setdefault(name, line)
        yield from repeated_keys(value, place)


def misread_numbers(node: yaml.Node | None, above: str = "") -> Iterator[tuple[str, int, str, object]]:
    """Path, line, text and value of each number that YAML reads in another base."""
    if isinstance(node, yaml.ScalarNode) and node.tag in NUMBERS and OTHER_BASE.fullmatch(node.value):
        yield above, node.start_mark.line + 1, node.value, yaml.safe_load(node.value)
    if isinstance(node, yaml.SequenceNode):
        for member in node.value:
            yield from misread_numbers(member, above)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            place = f"{above}.{key.value}" if above else str(key.value)
            yield from misread_numbers(key, place)
            yield from misread_numbers(value, place)
