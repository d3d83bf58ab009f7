"""Data sets of the package reasoning-gym: construction by name, and known properties of their scorers.

The package is an optional dependency. It is imported inside functions, because that takes 2 seconds (sympy,
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
    "codeio": "its items are made by running programs that a language model wrote, without limits",
    "composite": "it mixes data sets; name its parts as separate sets",
}
"""Data sets that cannot be used, and why."""

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
"""Data sets whose module evaluates text, and how.

- list: the scorer evaluates the answer as a Python list; `disarm` replaces eval by ast.literal_eval.
- expression: the scorer calls sympy.parse_expr on the answer, which uses eval; `gym_judge.is_arithmetic` filters it.
- own: the module evaluates only text that it generated, or has its own parser.
"""

EVALUATES = frozenset({"eval", "exec", "parse_expr", "sympify", "lambdify", "parse_latex", "__import__", "pickle"})
"""Names that can run text as a program."""

EXAMPLES = {
    "graph_color": "possible_answer",
    "propositional_logic": "example_answer",
    "rubiks_cube": "example_correct_answer",
}
"""Data sets without an oracle answer, and the key of `metadata` that contains a correct one."""

NOTES = {
    "puzzle24": "its scorer takes any four numbers of the range that make 24, not only those of the question",
    "time_intervals": "its scorer gives 0.99 and more for times that are minutes off: set task.right_from to 1",
    "calendar_arithmetic": "its scorer gives 0.99 and more for large counts that are one off: set task.right_from to 1",
}
"""Weaknesses of scorers that a user should know before training; `prepare` prints them."""


def installed() -> bool:
    """Return whether the package is installed, without importing it."""
    return importlib.util.find_spec("reasoning_gym") is not None


def require() -> None:
    """Raise ConfigError, with the command that installs the package, if it is missing."""
    if not installed():
        raise ConfigError(MISSING)


def release() -> str:
    """Return name and version of the installed package, for provenance: items depend on the version."""
    return f"reasoning-gym {importlib.metadata.version('reasoning-gym')}"


def names() -> list[str]:
    """Return the names of all usable data sets, sorted. Raises ConfigError if the package is missing."""
    return sorted(set(_registered()) - set(REFUSED))


def _registered() -> dict[str, tuple[type, type]]:
    require()
    import reasoning_gym  # noqa: F401 - its import registers the data sets
    from reasoning_gym.factory import DATASETS

    found: dict[str, tuple[type, type]] = DATASETS
    return found


def make(name: str, dataset: str, config: Mapping[str, Any], *, size: int, seed: int) -> Any:
    """Return the library's data set object.

    A list in `config` becomes a tuple if the library's default is a tuple, because YAML has none.

    Args:
        name: of the set in the configuration, for messages.
        dataset: name in the library.
        config: configuration of the data set, with the library's keys.
        size: number of items.
        seed: of the items.

    Raises ConfigError for an unknown or refused data set, unknown keys, and values that the library rejects.
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
    except Exception as error:  # mostly AssertionError; values of a wrong type raise others
        reason = str(error) or type(error).__name__
        raise ConfigError(f"{where}.config: {dataset} does not accept it: {reason}") from error


def _as_default(field: Any, value: object) -> object:
    return tuple(value) if isinstance(value, list) and isinstance(field.default, tuple) else value


def evaluating(made_by: type) -> set[str]:
    """Return the names in `EVALUATES` that the modules of a data set's class and its base classes use."""
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
    """Replace eval by ast.literal_eval in the module of a `list` data set, in this process."""
    if EVALUATION.get(dataset) == "list":
        vars(sys.modules[type(made).__module__])["eval"] = ast.literal_eval
