"""Rollouts that are not sampled: worked solutions in the table of `generate`, for the supervised control.

A control that spends the same compute on supervised steps shows how much of a gain is due to format and knowledge of
the task. Its rows go through the same stages, so they are inspected, judged and trained on like any others.
Source: our decision (O).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import polars as pl

from extra_rl.config.judges import is_generated
from extra_rl.config.sections import SamplingConfig, TaskConfig
from extra_rl.errors import ConfigError
from extra_rl.models.protocol import Tokenizer
from extra_rl.results import without_arm
from extra_rl.sampling.rollouts import Plan
from extra_rl.seeding import generator
from extra_rl.tables import contracts
from extra_rl.tasks.base import Problem
from extra_rl.tasks.demonstrations import response_tokens
from extra_rl.tasks.load import load_task


def demonstrated(
    plans: Sequence[Plan],
    train: pl.DataFrame,
    task: TaskConfig,
    sampling: SamplingConfig,
    tokenizer: Tokenizer,
    decode: Callable[[Sequence[Sequence[int]]], list[str]],
    seed: int,
) -> pl.DataFrame:
    """Return the rollouts table of these plans: a worked solution of each problem, marked as a prefix throughout.

    A generated task makes the solution, with a generator keyed by `seed` and the rollout's id without the arm; other
    tasks have it in the column `solution` of `train`. A solution beyond the response limit is cut off there, as a
    rollout is. Raises ConfigError where a problem has none.

    Args:
        plans: one per rollout.
        train: table of problems.
        task: the shared section.
        sampling: the shared section: response limit and stop strings.
        tokenizer: of the policy.
        decode: token ids of responses -> texts.
        seed: of the stage.
    """
    problems = {row["problem_id"]: row for row in train.iter_rows(named=True)}
    solve = solver(task)
    rows: list[dict[str, Any]] = []
    for plan in plans:
        solution = solve(problems[plan.problem_id], generator(seed, "demonstration", without_arm(plan.rollout_id)))
        tokens = response_tokens(solution, task, next(iter(sampling.stop), None), tokenizer)
        kept = tokens[: sampling.max_response_tokens]
        rows.append(
            {
                "rollout_id": plan.rollout_id,
                "group_id": plan.group_id,
                "problem_id": plan.problem_id,
                "origin": "demonstration",
                "prefix_id": None,
                "parent_rollout_id": None,
                "prefix_length": len(kept),
                "prompt_tokens": plan.prompt_tokens,
                "response_tokens": kept,
                "sampler_logprobs": [0.0] * len(kept),
                "sampled_tokens": 0,
                "finish_reason": "stop" if len(kept) == len(tokens) else "length",
            }
        )
    responses = decode([row["response_tokens"] for row in rows])
    schema = contracts.Rollouts.create_empty().schema
    return contracts.Rollouts.cast(
        pl.DataFrame([row | {"response": text} for row, text in zip(rows, responses, strict=True)], schema=schema)
    )


def solver(task: TaskConfig) -> Callable[[dict[str, Any], Any], str]:
    """Return a function (row of Problems, generator) -> worked solution."""
    generated = load_task(task) if is_generated(task.name) else None

    def solve(row: dict[str, Any], rng: Any) -> str:
        if generated is not None:
            problem = Problem(row["problem_id"], row["canonical"], row["benchmark"], row["problem"], row["answer"])
            return generated.demonstration(problem, rng)
        if not row["solution"]:
            raise ConfigError(
                f"generate.source: demonstrations needs worked solutions, but {row['problem_id']} has none: name their "
                "column (`solution` of a source in task.train)."
            )
        return str(row["solution"])

    return solve
