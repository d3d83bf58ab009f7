"""Worked solutions in the form of the policy's responses: examples in prompts, and targets of supervised steps.

Generated tasks make them; problems from files contain them in the column `solution`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import polars as pl

from extra_rl.config.judges import is_generated
from extra_rl.config.sections import TaskConfig
from extra_rl.errors import ConfigError
from extra_rl.models.protocol import Tokenizer
from extra_rl.models.turns import turn_end
from extra_rl.seeding import generator
from extra_rl.tasks.base import Problem, Task
from extra_rl.tasks.load import load_task
from extra_rl.tasks.prompts import Example, render, uses_chat
from extra_rl.tasks.sets import demonstration_stream

TokenPair = tuple[list[int], list[int]]
"""Tokens of a prompt and of the response to it."""


def examples_of(task: Task, count: int) -> list[tuple[Problem, str]]:
    """Return `count` problems of a generated task with their solutions, spread evenly over its levels in order.

    They depend only on the task and the count, so every stage renders the same examples.
    """
    rng = generator(0, task.name, "examples")
    problems: dict[str, Problem] = {}
    while len(problems) < count:
        problem = task.sample(task.levels[len(problems) * len(task.levels) // count], rng)
        problems.setdefault(problem.canonical, problem)
    return [(problem, task.demonstration(problem, rng)) for problem in problems.values()]


def shown(examples: Sequence[tuple[Problem, str]]) -> list[Example]:
    """Return examples in the form that `prompts.render` takes."""
    return [(problem.prompt, solution) for problem, solution in examples]


def response_tokens(solution: str, task: TaskConfig, stop: str | None, tokenizer: Tokenizer) -> list[int]:
    """Return the tokens of a worked solution with the end of a response.

    In a chat, the end is that of the turn. In bare text it is `stop`, or the tokenizer's end of sequence if that is
    None, and a blank separates problem and solution as in the lines of the examples.

    Args:
        solution: text.
        task: decides between chat and bare text.
        stop: the sampler's stop string.
        tokenizer: of the policy.

    Raises ConfigError if the tokenizer has no token that ends a response.
    """
    chat = uses_chat(task, tokenizer)
    text = solution if chat else f" {solution}" + (stop or "")
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    if stop is not None and not chat:
        return ids
    turn = turn_end(tokenizer) if chat else None
    end = tokenizer.eos_token_id if turn is None or turn.token_id is None else turn.token_id
    if end is None:
        raise ConfigError(
            "the tokenizer has no end of sequence, so a supervised response would have no end: set a stop string "
            "(sampling.stop)."
        )
    return [*ids, int(end)]


def demonstrations(
    task: TaskConfig,
    stop: str | None,
    tokenizer: Tokenizer,
    *,
    seed: int,
    level_weights: Mapping[str, float],
    held_out: pl.DataFrame,
    train: pl.DataFrame,
) -> Callable[[int, int], list[TokenPair]]:
    """Return a function (step, batch) -> `batch` pairs of prompt and response tokens, which depend on seed and step.

    A generated task makes new problems at every step. Other tasks draw rows of `train` that have a worked solution.

    Args:
        task: section of the configuration.
        stop: the sampler's stop string.
        tokenizer: of the policy.
        seed: of the demonstrations.
        level_weights: weight of each level of a generated task, or of each row of a source; empty: all equal.
        held_out: contract Problems; generated problems never have one of its canonical keys.
        train: contract Problems.

    Raises ConfigError for weights of unknown levels, and if no row has a solution.
    """
    if is_generated(task.name):
        generated = load_task(task)
        weights = level_weights or dict.fromkeys(generated.levels, 1.0)
        stream = demonstration_stream(generated, seed, level_weights=weights, exclude=frozenset(held_out["canonical"]))
        examples = shown(examples_of(generated, task.examples))

        def fresh(step: int, batch: int) -> list[TokenPair]:
            problems, solutions = zip(*stream(step, batch), strict=True)
            prompts = render(problems, task, tokenizer, examples)
            return [
                (tokens, response_tokens(solution, task, stop, tokenizer))
                for (_, tokens), solution in zip(prompts, solutions, strict=True)
            ]

        return fresh
    return _of_rows(task, stop, tokenizer, seed, level_weights, train)


def _of_rows(
    task: TaskConfig,
    stop: str | None,
    tokenizer: Tokenizer,
    seed: int,
    level_weights: Mapping[str, float],
    train: pl.DataFrame,
) -> Callable[[int, int], list[TokenPair]]:
    rows = [row for row in train.iter_rows(named=True) if row["solution"]]
    if not rows:
        raise ConfigError(
            "warm_start.steps needs worked solutions, and no training problem has one: name their column (`solution` "
            "of a source in task.train), or set warm_start.steps: 0."
        )
    known = sorted({row["benchmark"] for row in rows})
    if unknown := sorted(set(level_weights) - set(known)):
        raise ConfigError(
            f"warm_start.level_weights names {', '.join(unknown)}; solved training problems are of {', '.join(known)}."
        )
    weights = [level_weights.get(row["benchmark"], 0.0) if level_weights else 1.0 for row in rows]
    total = sum(weights)
    if total <= 0 or min(weights) < 0:
        raise ConfigError("warm_start.level_weights: give weights of 0 or more that are not all 0.")

    def drawn(step: int, batch: int) -> list[TokenPair]:
        rng = generator(seed, "demonstration", step)
        chosen = rng.choice(len(rows), size=batch, p=[weight / total for weight in weights])
        return [(rows[i]["prompt_tokens"], response_tokens(rows[i]["solution"], task, stop, tokenizer)) for i in chosen]

    return drawn
