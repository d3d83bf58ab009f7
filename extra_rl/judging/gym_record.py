"""Lossless conversion of Reasoning Gym's entries to JSON and back.

Scorers compare tuples with tuples and use numbers as keys. JSON has neither, so values that it would change are written
as objects with the key MARK:

    (1, 2)      {"!": "tuple", "of": [1, 2]}
    {1: 2}      {"!": "dict", "of": [[1, 2]]}         also a dictionary with the key "!"
    {1, 2}      {"!": "set", "of": [1, 2]}
    nan         {"!": "float", "of": "nan"}

Numbers and texts of numpy become equal Python values. Source: our decision.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

MARK = "!"

CONTAINERS: dict[str, Callable[[list[Any]], object]] = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "dict": dict,
}


def to_json(value: object) -> str:
    """Return the JSON text of a value. TypeError, with the type's name, for a type that has no lossless form."""
    return json.dumps(_encoded(value), allow_nan=False, separators=(",", ":"))


def from_json(text: str) -> Any:
    """Return a new copy of the value whose `to_json` is `text`: some scorers modify the entry."""
    return json.loads(text, object_hook=_decoded)


def _encoded(value: object) -> object:
    plain = getattr(value, "item", None)
    if type(value).__module__ == "numpy" and callable(plain):
        value = plain()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {MARK: "float", "of": repr(value)}
    if type(value) is list:
        return [_encoded(member) for member in value]
    if type(value) is dict:
        if MARK not in value and all(type(key) is str for key in value):
            return {key: _encoded(member) for key, member in value.items()}
        return {MARK: "dict", "of": [[_encoded(key), _encoded(member)] for key, member in value.items()]}
    if type(value) is tuple:
        return {MARK: "tuple", "of": [_encoded(member) for member in value]}
    if type(value) in (set, frozenset):
        members = sorted(value, key=repr)  # type: ignore[call-overload]
        return {MARK: type(value).__name__, "of": [_encoded(member) for member in members]}
    raise TypeError(f"{type(value).__module__}.{type(value).__name__}")


def _decoded(found: dict[str, Any]) -> object:
    kind = found.get(MARK)
    if kind is None:
        return found
    return float(found["of"]) if kind == "float" else CONTAINERS[kind](found["of"])
