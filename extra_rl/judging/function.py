"""A user's function, or the method `judge` of a task of one's own, as a judge: each response in its own process.

The function is called with those of the `ARGUMENTS` that it has as parameters. `judgement_of` lists what it may return.
An exception, a value of another kind, a call that takes too long or too much memory is the verdict of its row, `error`
or `timeout`, with the reason as its rule. Source: our decision.
"""

from __future__ import annotations

import inspect
import json
import os
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from extra_rl.config.sections import VerifierConfig
from extra_rl.errors import ConfigError
from extra_rl.judging.isolated import call_isolated
from extra_rl.judging.pool import judge_in_pool
from extra_rl.judging.result import decoded, encoded, failed, judgement_of
from extra_rl.user_code import load
from extra_rl.verdict import Judgement, Verdict

ARGUMENTS = ("problem", "reference", "response", "tokens", "metadata", "truncated")
"""What a function may take, by the names of its parameters."""
OF_TASKS = ("prompt", "answer", "finished")
"""Other names of `problem`, `reference` and `not truncated`, for the method of a task (`tasks.base.Task`)."""
EVERY_CHARACTER = 2**31
MACHINERY: set[int] = set()
"""Files that a worker had open before it imported a user's code: its pipes, which that code must not reach."""


@dataclass(frozen=True)
class FunctionItem:
    """One response. gold: reference answer. tokens: of the response. metadata: JSON text of the problem, or None."""

    problem: str
    gold: str
    response: str
    truncated: bool
    tokens: tuple[int, ...] = ()
    metadata: str | None = None

    def tail(self, chars: int) -> FunctionItem:
        """Return the item itself: a user's function gets the whole response."""
        return self

    def arguments(self) -> dict[str, Any]:
        """Return the value of each of `ARGUMENTS` and `OF_TASKS`."""
        return {
            "problem": self.problem,
            "reference": self.gold,
            "response": self.response,
            "tokens": list(self.tokens),
            "metadata": json.loads(self.metadata) if self.metadata else {},
            "truncated": self.truncated,
            "prompt": self.problem,
            "answer": self.gold,
            "finished": not self.truncated,
        }


@dataclass(frozen=True)
class FunctionJudge:
    """The judge as a picklable callable for `judge_in_pool`.

    Args:
        reference: `module:function`, or `module:Class` of a task.
        folder: of the project, from which the module is imported.
        timeout_s: CPU seconds for each response.
        correct_at: smallest number of a correct response.
        task: whether the reference names a task, whose method `judge` is called.
    """

    reference: str
    folder: str
    timeout_s: float
    correct_at: float
    task: bool = False

    def warm_up(self) -> None:
        """Import the module in a worker, outside the limits of a response. What it prints goes to standard error."""
        os.dup2(2, 1)
        MACHINERY.update(int(name) for name in os.listdir("/proc/self/fd") if int(name) > 2)
        callable_of(self.reference, self.folder, self.task)

    def __call__(self, item: FunctionItem) -> Judgement:
        """Return the judgement of one response."""
        outcome = call_isolated(lambda: encoded(self.judged(item)), self.timeout_s, MACHINERY)
        if outcome.answer is not None:
            return decoded(outcome.answer)
        if outcome.fault in ("time", "memory"):
            return Judgement(Verdict.TIMEOUT, None, outcome.fault)
        return failed(outcome.fault)

    def judged(self, item: FunctionItem) -> Judgement:
        """Call the function in this process; any exception but MemoryError is the verdict `error`.

        The global random generators of Python and numpy have the same state for every response.
        """
        function, names = callable_of(self.reference, self.folder, self.task)
        random.seed(0)
        if "numpy.random" in sys.modules:
            sys.modules["numpy.random"].seed(0)
        try:
            given = item.arguments()
            returned = function(**{name: given[name] for name in names})
            return judgement_of(returned, self.correct_at, self.reference)
        except MemoryError:
            raise
        except BaseException as error:  # a user's code may raise anything, SystemExit and KeyboardInterrupt included
            return failed(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)


@lru_cache(maxsize=8)
def callable_of(reference: str, folder: str, task: bool) -> tuple[Callable[..., Any], tuple[str, ...]]:
    """Import a function, or make a task and take its method `judge`; return it and the names that it takes.

    Raises ConfigError where it cannot be called with some of `ARGUMENTS`, and whatever the import raises.
    """
    found = load(reference, Path(folder))
    if "numpy" in sys.modules:  # it imports this part at its first use, which would be in a call
        import_module("numpy.random")
    if not task:
        return found, parameters(found, reference, ARGUMENTS)
    judge = getattr(found(), "judge", None)
    if judge is None:
        raise ConfigError(f"{reference}: the task has no method `judge`.")
    return judge, parameters(judge, f"{reference}.judge", ARGUMENTS + OF_TASKS)


def parameters(function: Any, name: str, known: Sequence[str]) -> tuple[str, ...]:
    """Return which of the known arguments a function takes. ConfigError if it cannot be called with them."""
    allowed = f"a judge may have the parameters {', '.join(ARGUMENTS)}"
    if not callable(function) or inspect.isclass(function):
        raise ConfigError(f"{name} is {_article(function)}, not a function; {allowed}.")
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise ConfigError(f"{name} is asynchronous or a generator; write a plain function.")
    found = inspect.signature(function).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in found):
        return tuple(name for name in known if name in ARGUMENTS)
    for p in found:
        if p.name not in known and p.default is p.empty and p.kind is not p.VAR_POSITIONAL:
            raise ConfigError(f"{name} has the parameter `{p.name}`, which no response has; {allowed}.")
        if p.kind is p.POSITIONAL_ONLY:
            raise ConfigError(f"{name} takes `{p.name}` by position only (a / in its parameters); remove the /.")
    names = tuple(p.name for p in found if p.name in known)
    if not names:
        raise ConfigError(f"{name} takes none of a response's values; {allowed}.")
    return names


def judge_by_function(
    reference: str,
    items: Sequence[FunctionItem],
    verifier: VerifierConfig,
    *,
    correct_at: float,
    task: bool = False,
    progress: Callable[[int], object] | None = None,
) -> list[Judgement]:
    """Return the judgement of each item, in order.

    Args:
        reference: `module:function`, or `module:Class` of a task.
        items: responses.
        verifier: limits: `timeout_s` CPU seconds a response (4 times as many on the clock), `memory_mb`, `workers`.
        correct_at: smallest number of a correct response.
        task: as in `FunctionJudge`.
        progress: called with 1 for each judged response.

    Raises InputError if the workers cannot import the function; their message is on standard error.
    """
    judge = FunctionJudge(reference, str(Path.cwd()), verifier.timeout_s, correct_at, task)
    limits = verifier.model_copy(update={"max_chars": EVERY_CHARACTER})
    return judge_in_pool(judge, items, limits, progress=progress, preload="extra_rl.judging.function")


def _article(value: object) -> str:
    return "a class" if inspect.isclass(value) else f"of the type {type(value).__name__}"
