"""Reading of configuration files. A key that is given twice is refused: YAML's readers keep the last one in silence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from extra_rl.errors import ConfigError

MERGE_KEY = "<<"
"""Key that includes the keys of an anchor; a mapping may have several."""


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a configuration file as a mapping; ConfigError names the file, and the line of a key that is given twice."""
    text = _text(path)
    _refuse_repeated(path, text)
    raw = yaml.safe_load(text)
    if raw is None:
        raise ConfigError(f"{path}: the file is empty. A configuration has at least name, iterations and arms.")
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: a configuration is a mapping of sections.")
    return raw


def refuse_repeated_keys(paths: Iterable[Path]) -> None:
    """Raise ConfigError where one of the files gives a key twice. For files that another program has read already."""
    for path in paths:
        _refuse_repeated(path, _text(path))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as text ({error}).") from error


def _refuse_repeated(path: Path, text: str) -> None:
    try:
        found = list(repeated_keys(yaml.compose(text, Loader=yaml.SafeLoader)))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if found:
        lines = [f"  line {line}: {key} is given on line {first} already" for key, line, first in found]
        raise ConfigError(f"{path}: keys are given twice; keep one of each:\n" + "\n".join(lines))


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
