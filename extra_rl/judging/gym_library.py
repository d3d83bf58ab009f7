"""Data sets of the package reasoning-gym: making one by name, and what is known of their scorers.

The package is an extra of this project; it is imported here only, inside functions (2 seconds, with sympy and
matplotlib). Source: https://github.com/open-thought/reasoning-gym, read at version 0.1.25.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import importlib.metadata
import importlib.util
import inspect
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from extra_rl.errors import ConfigError

MISSING = (
    "task.name is reasoning_gym, but the package reasoning-gym is not installed: pip install reasoning-gym "
    "(docs/tasks.md)."
)

REFUSED = {
    "codeio": "its items are made by running programs that a language model wrote, without any limit",
    "composite": "it mixes data sets; name its parts as sets of their own",
}
"""Data sets that this project does not offer, and why."""

EVALUATION: dict[str, Literal["list", "expression", "own"]] = {
    "binary_matrix": "list",
    "n_queens": "list",
    "spiral_matrix": "list",
    "string_insertion": "list",
    "countdown": "expression",
    "intermediate_integration": "expression",
    "polynomial_multiplication": "expression",
    "puzzle24": "expression",
    "simple_integration": "expression",
    "basic_arithmetic": "own",
    "bitwise_arithmetic": "own",
    "number_sorting": "own",
    "propositional_logic": "own",
}
"""Data sets whose module evaluates text. `list`: eval of the answer, for a Python list; it gets ast.literal_eval in its
place. `expression`: sympy.parse_expr of the answer, which is eval; only arithmetic is let through (`gym_judge`). `own`:
of its own texts only, or by a parser of its own."""

EVALUATES = frozenset({"eval", "exec", "parse_expr", "sympify", "lambdify", "parse_latex", "__import__", "pickle"})

EXAMPLES = {
    "graph_color": "possible_answer",
    "propositional_logic": "example_answer",
    "rubiks_cube": "example_correct_answer",
}
"""Data sets without an oracle answer that keep a right answer under this key of `metadata`."""

NOTES = {
    "puzzle24": "its scorer takes any four numbers of the range that make 24, not only those of the question",
    "time_intervals": "its scorer gives 0.99 and more for times that are minutes off: set task.right_from to 1",
    "calendar_arithmetic": "its scorer gives 0.99 and more for large counts that are one off: set task.right_from to 1",
}
"""What a user should know of a scorer before training on it; said by `prepare`."""


def installed() -> bool:
    """Whether the package is there, without importing it."""
    return importlib.util.find_spec("reasoning_gym") is not None


def require() -> None:
    """ConfigError, with the command that installs it, where the package is missing."""
    if not installed():
        raise ConfigError(MISSING)


def release() -> str:
    """Name and version of the installed package, for provenance: items change with it."""
    return f"reasoning-gym {importlib.metadata.version('reasoning-gym')}"


def names() -> list[str]:
    """All data sets that are offered, sorted. Raises ConfigError where the package is missing."""
    return sorted(set(_registered()) - set(REFUSED))


def _registered() -> dict[str, tuple[type, type]]:
    require()
    import reasoning_gym  # noqa: F401 - its import registers the data sets
    from reasoning_gym.factory import DATASETS

    found: dict[str, tuple[type, type]] = DATASETS
    return found


def make(name: str, dataset: str, config: Mapping[str, Any], *, size: int, seed: int) -> Any:
    """The library's data set object. name: of the set in the configuration, for messages.

    A list becomes a tuple where the library's default is one: YAML has no tuples.
    Raises ConfigError for a data set that does not exist or is refused, for keys that it does not have, and for values
    that the library does not accept.
    """
    where = f"task.sets.{name}"
    registered = _registered()
    if dataset in REFUSED:
        raise ConfigError(f"{where}.dataset: {dataset} cannot be used: {REFUSED[dataset]}.")
    if dataset not in registered:
        near = difflib.get_close_matches(dataset, names(), n=3, cutoff=0.5) or names()
        raise ConfigError(
            f"{where}.dataset: reasoning-gym has no data set {dataset!r}; the nearest: {', '.join(near)}."
        )
    made_by, config_class = registered[dataset]
    if dataset not in EVALUATION and (found := sorted(evaluating(made_by))):
        raise ConfigError(
            f"{where}.dataset: the module of {dataset} uses {', '.join(found)}, and it is not known to be safe with "
            "the text of a model: take reasoning-gym 0.1.25, or another data set."
        )
    fields = {field.name: field for field in dataclasses.fields(config_class)}
    known = sorted(set(fields) - {"size", "seed"})
    if unknown := sorted(set(config) - set(known)):
        raise ConfigError(
            f"{where}.config: {dataset} has no key {', '.join(unknown)}; it has {', '.join(known) or 'none'}."
        )
    values = {key: _as_default(fields[key], value) for key, value in config.items()}
    try:
        return made_by(config=config_class(**values, size=size, seed=seed))
    except Exception as error:  # assertions, mostly, and what wrong types raise
        reason = str(error) or type(error).__name__
        raise ConfigError(f"{where}.config: {dataset} does not accept it: {reason}") from error


def _as_default(field: Any, value: object) -> object:
    return tuple(value) if isinstance(value, list) and isinstance(field.default, tuple) else value


def evaluating(made_by: type) -> set[str]:
    """Names in `EVALUATES` that the module of a data set's class, or of a class above it, uses."""
    modules = {cls.__module__ for cls in made_by.__mro__ if cls.__module__.startswith("reasoning_gym.")}
    used = {name for module in modules for name in _names_in(inspect.getsource(sys.modules[module]))}
    return used & EVALUATES


def _names_in(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr


def disarm(dataset: str, made: object) -> None:
    """Put ast.literal_eval in the place of eval in the module of a `list` data set, for this process."""
    if EVALUATION.get(dataset) == "list":
        vars(sys.modules[type(made).__module__])["eval"] = ast.literal_eval
