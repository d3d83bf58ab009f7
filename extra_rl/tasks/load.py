"""The generated task that a section `task` names: one of this library, or a user's own."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from extra_rl.config.judges import TASKS
from extra_rl.errors import ConfigError
from extra_rl.tasks.own import inspect_task, own_task
from extra_rl.user_code import is_reference

if TYPE_CHECKING:
    from extra_rl.config.sections import TaskConfig
    from extra_rl.tasks.base import Task


def load_task(config: TaskConfig) -> Task:
    """Return the generated task of a section `task`. Raises ConfigError for a name that is not that of one."""
    if is_reference(config.name):
        return own_task(config.name)
    if config.name not in TASKS:
        raise ConfigError(f"task.name: {config.name} is not a generated task; known: {', '.join(TASKS)}")
    task: Task = import_module(f"extra_rl.tasks.{config.name}").make(config)
    return task


def levels_and_words(config: TaskConfig) -> tuple[tuple[str, ...], int]:
    """Return the levels of a generated task and its number of words; a user's class is only run in a child process.

    Raises ConfigError for a user's task that cannot be used. A task without a vocabulary has 0 words.
    """
    if is_reference(config.name):
        found = inspect_task(config.name)
        return tuple(found["levels"]), int(found["vocabulary"])
    task = load_task(config)
    return task.levels, len(task.vocabulary)
