"""Names of tasks and judges: which there are, and what else a configuration may write in their place."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from extra_rl.config.mistakes import nearest
from extra_rl.user_code import FILE, REFERENCE, is_reference

TASKS = ("signed_sum", "countdown", "arithmetic")
"""Generated tasks of this library: the files of `extra_rl/tasks/` with a function `make`."""
TASK_NAMES = (*TASKS, "math", "reasoning_gym")
"""Tasks of this library: generated ones, problems from files, and those of Reasoning Gym."""
JUDGES = ("own", "math", "reasoning_gym")
"""Judges of this library, by the name in `task.judge`."""
TASK_SCHEMA: dict[str, Any] = {"anyOf": [{"enum": list(TASK_NAMES)}, {"pattern": f"^{REFERENCE.pattern}$"}]}
"""JSON schema of `task.name`, for editors."""


def is_generated(name: str) -> bool:
    """Return whether a task generates its problems (`tasks.base.Task`): one of TASKS, or a task of one's own."""
    return name in TASKS or is_reference(name)


def task_name(name: str) -> str:
    """Return the name of a task; ValueError unless it is in TASK_NAMES or has the form `module:Class`."""
    if name not in TASK_NAMES and not is_reference(name):
        raise ValueError(
            f"unknown task {name!r}; there are {', '.join(TASK_NAMES)}, and module:Class for a task of your own"
            f"{nearest(name, TASK_NAMES)}"
        )
    return name


def judge_name(judge: str, task: str | None) -> str:
    """Return what `task.judge` says; ValueError for what can be no judge. task: its name; None: an invalid one."""
    if FILE.fullmatch(judge):
        raise ValueError(f"{judge}: write module:function, without .py and with dots instead of /")
    if judge == "reasoning_gym" and task not in (judge, None):
        raise ValueError("reasoning_gym judges only the items of the task reasoning_gym")
    try:
        words = shlex.split(judge)
    except ValueError as error:
        raise ValueError(f"neither module:function nor a command line ({error})") from None
    if not words:
        raise ValueError(f"name a judge: {', '.join(JUDGES)}, module:function, or a command line")
    return judge


def who_judges(task: Mapping[str, Any]) -> str:
    """Return the judge of a section `task`: that of `task.judge`, or the task's own, by the name of the task."""
    return str(task["name"] if task["judge"] == "own" else task["judge"])
