"""Which prepared problems are trained on, kept for tuning, or too long for the context."""

from __future__ import annotations

from dataclasses import replace

from extra_rl.errors import ConfigError
from extra_rl.problems.prepared import PreparedProblem
from extra_rl.seeding import generator


def set_aside(train: list[PreparedProblem], count: int, seed: int) -> list[PreparedProblem]:
    """The training problems, `count` of them, chosen by the seed, as split `tuning`."""
    if count >= len(train) > 0:
        raise ConfigError(f"prepare.tuning_problems: {count} of {len(train)} training problems; ask for fewer.")
    order = generator(seed, "math", "tuning").permutation(len(train))
    chosen = set(order[:count].tolist())
    return [replace(p, split="tuning") if n in chosen else p for n, p in enumerate(train)]


def split_by_length(problems: list[PreparedProblem], room: int) -> tuple[list[PreparedProblem], list[PreparedProblem]]:
    """Problems whose prompt leaves room for a response, and the others."""
    return (
        [problem for problem in problems if len(problem.prompt_tokens) <= room],
        [problem for problem in problems if len(problem.prompt_tokens) > room],
    )


def refuse_long(long: list[PreparedProblem], room: int) -> None:
    """ConfigError: a figure over part of a benchmark would not be that benchmark's."""
    if long:
        longest = max(long, key=lambda problem: len(problem.prompt_tokens))
        over = len(longest.prompt_tokens) - room
        raise ConfigError(
            f"{len(long)} benchmark prompts are longer than {room} tokens, the context less the response; the longest "
            f"is {longest.problem_id}. Benchmarks are not thinned: raise model.context_tokens by {over}, or set "
            "`limit` of a benchmark."
        )
