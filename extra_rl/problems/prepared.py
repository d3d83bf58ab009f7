"""Problems with tokenised prompts, generated or read from sources, and their splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from extra_rl.config.sections import ModelConfig, TaskConfig
from extra_rl.errors import ConfigError
from extra_rl.models.protocol import Tokenizer
from extra_rl.problems.sources import RawProblem, read_source
from extra_rl.problems.statements import normalise
from extra_rl.seeding import generator
from extra_rl.tables import contracts
from extra_rl.tasks.demonstrations import examples_of, shown
from extra_rl.tasks.load import load_task
from extra_rl.tasks.own import VOCABULARY
from extra_rl.tasks.prompts import Example, render
from extra_rl.tasks.sets import make_sets


@dataclass(frozen=True)
class PreparedProblem:
    """A row of the problems table (`extra_rl.tables.contracts.Problems`)."""

    problem_id: str
    benchmark: str
    split: str
    canonical: str
    problem: str
    prompt: str
    prompt_tokens: list[int]
    answer: str
    relative_tolerance: float = 0.0
    absolute_tolerance: float = 0.0
    solution: str | None = None
    metadata: str | None = None


def tokenizer_of(task: TaskConfig, model: ModelConfig) -> Any:
    """Return the tokenizer of the policies of this configuration. Raises ConfigError and ModelError."""
    from extra_rl.models import tokenizers
    from extra_rl.models.policy import load_tokenizer

    if model.source != "new":
        return load_tokenizer(model.source, model.revision, model.gguf_file)
    if model.tokenizer == "bytes":
        return tokenizers.byte_level()
    if task.name in ("math", "reasoning_gym"):
        raise ConfigError(
            f"model.tokenizer: `words` is for generated tasks; a new model for `{task.name}` needs `bytes`."
        )
    words = load_task(task).vocabulary
    if not words:
        raise ConfigError(f"{task.name} {VOCABULARY}.")
    return tokenizers.word_level(words)


def generated_problems(
    task: TaskConfig,
    tokenizer: Tokenizer,
    *,
    seed: int,
    train_per_level: Mapping[str, int],
    tuning_per_level: int,
    final_per_level: int,
) -> list[PreparedProblem]:
    """Return all problems of a generated task: train first, then tuning, then final.

    Args:
        seed: of the problem sets.
        train_per_level: level -> number of training problems; absent: none.
        tuning_per_level, final_per_level: held-out problems of every level.

    Raises ConfigError for a level that has too few problems.
    """
    generated = load_task(task)
    examples = examples_of(generated, task.examples)
    sets = make_sets(
        generated,
        seed,
        train=train_per_level,
        tuning_per_level=tuning_per_level,
        final_per_level=final_per_level,
        exclude=frozenset(problem.canonical for problem, _ in examples),
    )
    named = {"train": sets.train, "tuning": sets.tuning, "final": sets.final}
    drawn = [(split, problem) for split, problems in named.items() for problem in problems]
    rendered = render([problem.prompt for _, problem in drawn], task, tokenizer, shown(examples))
    return [
        PreparedProblem(
            problem_id=p.problem_id,
            benchmark=p.level,
            split=split,
            canonical=p.canonical,
            problem=p.prompt,
            prompt=prompt,
            prompt_tokens=tokens,
            answer=p.answer,
        )
        for (split, p), (prompt, tokens) in zip(drawn, rendered, strict=True)
    ]


def benchmark_problems(task: TaskConfig, tokenizer: Tokenizer) -> list[PreparedProblem]:
    """Return all problems of `task.benchmarks`, in the order of the configuration.

    Raises InputError (`read_source`), and ConfigError where prompts show examples, which come from training problems.
    """
    if task.examples:
        raise ConfigError(
            "task.examples: the examples of a prompt are training problems, which are not read here: use "
            "`snakemake evaluate`, or set task.examples: 0."
        )
    return [
        problem
        for name, config in task.benchmarks.items()
        for problem in prepared(read_source(name, config).problems, "final", task, tokenizer)
    ]


def prepared(
    problems: Sequence[RawProblem], split: str, task: TaskConfig, tokenizer: Tokenizer, examples: Sequence[Example] = ()
) -> list[PreparedProblem]:
    """Return the problems with their prompts, in order. Raises what `render` raises."""
    rendered = render([problem.prompt for problem in problems], task, tokenizer, examples)
    return [
        PreparedProblem(
            problem_id=p.problem_id,
            benchmark=p.benchmark,
            split=split,
            canonical=normalise(p.text),
            problem=p.text,
            prompt=prompt,
            prompt_tokens=tokens,
            answer=p.answer,
            relative_tolerance=p.relative_tolerance,
            absolute_tolerance=p.absolute_tolerance,
            solution=p.solution,
        )
        for p, (prompt, tokens) in zip(problems, rendered, strict=True)
    ]


def problems_frame(problems: Sequence[PreparedProblem]) -> pl.DataFrame:
    """Return the problems as a table (contract Problems)."""
    columns = contracts.Problems.columns()
    return contracts.Problems.cast(
        pl.DataFrame({name: [getattr(p, name) for p in problems] for name in columns}, strict=False)
    )


def set_aside(train: list[PreparedProblem], count: int, seed: int) -> list[PreparedProblem]:
    """Return the training problems, `count` of them, chosen by the seed, as split `tuning`. ConfigError for too few."""
    if count >= len(train) > 0:
        raise ConfigError(f"prepare.tuning_problems: {count} of {len(train)} training problems; ask for fewer.")
    order = generator(seed, "math", "tuning").permutation(len(train))
    chosen = set(order[:count].tolist())
    return [replace(p, split="tuning") if n in chosen else p for n, p in enumerate(train)]


def split_by_length(
    problems: list[PreparedProblem], prompt_tokens: int
) -> tuple[list[PreparedProblem], list[PreparedProblem]]:
    """Return the problems with prompts of at most `prompt_tokens` tokens, and the others."""
    return (
        [problem for problem in problems if len(problem.prompt_tokens) <= prompt_tokens],
        [problem for problem in problems if len(problem.prompt_tokens) > prompt_tokens],
    )


def refuse_long(long: list[PreparedProblem], prompt_tokens: int) -> None:
    """Raise ConfigError if any benchmark prompt is too long: a score on part of a benchmark is not that benchmark's."""
    if long:
        longest = max(long, key=lambda problem: len(problem.prompt_tokens))
        over = len(longest.prompt_tokens) - prompt_tokens
        raise ConfigError(
            f"{len(long)} benchmark prompts are longer than {prompt_tokens} tokens, the context less the response; the "
            f"longest is {longest.problem_id}. Benchmarks are not thinned: raise model.context_tokens by {over}, or "
            "set `limit` of a benchmark."
        )
